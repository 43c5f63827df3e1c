"""What an event loop would hand out step by step, for tests that are no coroutines."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def items(stream: AsyncIterator[Item]) -> Iterator[Item]:
    """The items of an asynchronous generator, each computed when it is asked for; closing this closes the stream."""
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(stream))
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(stream.aclose())  # type: ignore[attr-defined]  # a generator
        while rest := asyncio.all_tasks(loop):
            loop.run_until_complete(asyncio.wait(rest))
        loop.close()
