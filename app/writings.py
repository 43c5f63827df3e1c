"""Texts of both models that visitors wait for and read: in the line, once for all who ask for the same, off the event loop.

A class that presses Generate on one prompt at the same time is one computation: each of them reads all of it, and whoever
has one running for the same need not wait in the line. Those who wait for other texts of the same two models are written as
one batch with the first of them whose turn comes. Whoever waits holds no thread; computing has a few of its own, so
that hundreds who wait slow down nobody's savings.

All of it is called in one event loop.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from app import services
from app.line import Line, Place, Wait
from app.visitors import NOBODY, Visitor

if TYPE_CHECKING:  # it imports torch
    from core.decoding.batched import Wanted
    from core.decoding.generation import PairProgress

THREADS = 32
"""More than continuations are ever written at once."""
BATCH = 8
"""Texts that are written together: a step of so many takes about as long as one's; of more it takes longer."""
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="texts")
_NO_MORE = object()
_leaving: set[asyncio.Task] = set()  # the event loop itself keeps no task


class Texts(NamedTuple):
    """What both models are asked to write, as `services.generate` takes it: the same for all who want the same."""

    model: str
    plan: str
    prompt: str
    max_new_tokens: int
    temperature: float
    seed: int
    heads: str = ""
    chat: bool = False
    system: str = ""
    against: str = ""

    @property
    def models(self) -> tuple[str, str, str, str]:
        """What texts have to agree in to be written together."""
        return self.model, self.plan, self.heads, self.against

    @property
    def wanted(self) -> "Wanted":
        """What is wanted of these models."""
        from core.decoding.batched import Wanted

        return Wanted(self.prompt, self.max_new_tokens, self.temperature, self.seed, self.chat, self.system)


class _Together:
    """Several computations of the same two models as one batch, in one turn."""

    def __init__(self, place: Place, turn: ExitStack, writings: "list[_Writing]", hand_on: Callable) -> None:
        self.writings, self.dropped = writings, set[int]()
        self._place, self._turn, self._hand_on = place, turn, hand_on
        self._resting = set[_Writing]()
        first = writings[0].texts
        self._steps = services.generate_together(
            first.model,
            first.plan,
            first.heads,
            [one.texts.wanted for one in writings],
            self.dropped,
            first.against,
        )
        self._news: list[list[Any]] = [[] for _ in writings]
        self._ended, self._problem, self._lock = False, None, Lock()  # type: bool, Exception | None, Lock

    def next_of(self, place: int) -> "PairProgress":
        """What is new of one of them; whoever asks has all of them computed. Raises StopIteration at its end."""
        with self._lock:
            while not self._news[place] and not self._ended:
                self._advance()
            if not self._news[place]:
                raise self._problem or StopIteration
            news = self._news[place].pop(0)
        if isinstance(news, ValueError):
            raise news
        return news

    def _advance(self) -> None:
        try:
            place, news = next(self._steps)
        except StopIteration:
            self._ended = True
        except Exception as problem:  # noqa: BLE001 - it belongs to whoever reads
            self._ended, self._problem = True, problem
        else:
            waiting = self._news[place]
            if (
                len(waiting) > 1
            ):  # who is slow sees the first of these, which may be where the texts part, and the newest
                waiting.pop()
            waiting.append(news)

    def drop(self, place: int) -> None:
        """Nobody wants this one any more."""
        self.dropped.add(place)
        if len(self.dropped) == len(self._news):
            with self._lock:
                self._steps.close()

    def rest(self, writing: "_Writing") -> None:
        """One of them needs the turn no more; the last one gives it back."""
        self._resting.add(writing)
        others = [one for one in self.writings if one not in self._resting]
        if not others:
            self._turn.close()
        elif reader := next((reader for one in others for reader in one.readers), None):
            self._hand_on(self._place, reader.visitor)


class _Row:
    """The steps of one of several that are computed together, as an iterator of its own."""

    def __init__(self, together: _Together, place: int) -> None:
        self._together, self._place = together, place

    def __iter__(self) -> "_Row":
        return self

    def __next__(self) -> "PairProgress":
        return self._together.next_of(self._place)

    def close(self) -> None:
        """Compute it no more."""
        self._together.drop(self._place)


class _Writing:
    """One computation: what it has come to so far, who reads it, and the turn that it goes on in."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        self.steps: Iterator[PairProgress] | None = None
        self.done = 0  # how many times there was something new
        self.newest: PairProgress | None = None
        self.parted: tuple[int, PairProgress] | None = None  # when the texts parted, and how they stood
        self.ended = False
        self.problem: Exception | None = None
        self.readers: set[Reader] = set()  # those that read now
        self.known: set[Reader] = set()  # and those that pause, or wait for their turn
        self.turn = ExitStack()
        self.place: Place | None = None  # that it goes on in
        self.pull: asyncio.Task | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it can be read without a turn of one's own."""
        return self.ended or self.place is not None

    @property
    def waits(self) -> bool:
        """Whether it has not begun, and somebody is in the line for it."""
        begun = self.goes_on or self.steps is not None
        return not begun and any(reader.place is not None for reader in self.known)

    def begin(self, place: Place, turn: ExitStack, steps: "Iterator[PairProgress] | None" = None) -> None:
        """Go on in this turn, and call all who wait for the same."""
        self.place, self.turn, self.steps = place, turn, self.steps or steps
        for reader in self.known:
            if reader.place is not None:
                reader.place.wake()

    def rest(self) -> None:
        """Nobody reads: the turn is the next one's."""
        self.place = None
        self.turn.close()

    async def more_than(self, seen: int) -> bool:
        """Have the next one computed, by whoever asks first. False: there is none. Raises what the computation raised."""
        while self.done <= seen and not self.ended:
            if self.pull is None or self.pull.done():
                self.pull = asyncio.ensure_future(self._compute())
            await asyncio.shield(self.pull)  # who stops reading does not end it for the others
        if self.done <= seen and self.problem is not None:
            raise self.problem
        return self.done > seen

    async def _compute(self) -> None:
        item: Any = _NO_MORE
        try:
            if self.steps is None:
                self.steps = services.generate(*self.texts)
            item = await in_thread(next, self.steps, _NO_MORE)
        except Exception as problem:  # noqa: BLE001 - it belongs to whoever reads
            self.problem = problem
        finally:
            if item is _NO_MORE:
                self.ended = True
                self.rest()
        if not self.ended:
            self.done, self.newest = self.done + 1, item
            if self.parted is None and item.parting is not None:
                self.parted = self.done, item

    async def close(self) -> None:
        """Nobody wants it any more."""
        self.rest()
        self.ended = True
        if self.pull is not None and not self.pull.done():
            await asyncio.wait([self.pull])
        if self.steps is not None:
            await in_thread(self.steps.close)  # type: ignore[attr-defined]  # a generator


class Reader:
    """One visitor's way through a computation, from its beginning: `waiting`, then the progress itself, then `leave`."""

    def __init__(self, writings: "Writings", writing: _Writing) -> None:
        self._writings, self._writing = writings, writing
        self._seen = 0  # of what there was to see
        self.place: Place | None = None  # in the line, while this waits there
        self.visitor = NOBODY
        writing.known.add(self)

    async def waiting(self, visitor: Visitor, stopped: Callable[[], bool] = lambda: False) -> AsyncIterator[Wait]:
        """What to tell until reading can begin. It ends early where `stopped()` says so. Raises LineFull."""
        writing, self.visitor = self._writing, visitor
        if not writing.goes_on:
            with ExitStack() as turn:
                self.place = turn.enter_context(self._writings.line.place(visitor))
                try:
                    async for wait in self.place.coming(lambda: stopped() or writing.goes_on):
                        yield wait
                    if self.place.has_turn and not writing.goes_on and not stopped():
                        self._writings.begin(writing, self.place, turn.pop_all())
                finally:
                    self.place = None
        if not stopped():
            writing.readers.add(self)

    async def progress(self) -> "AsyncIterator[PairProgress]":
        """The texts as they grow. Whoever is late sees where they are now, and the place where they parted.

        Raises ValueError for texts that cannot be written.
        """
        writing = self._writing
        while await writing.more_than(self._seen):
            here: Any = (writing.done, writing.newest)
            if writing.parted is not None and writing.parted[0] > self._seen:
                here = writing.parted
            self._seen, item = here
            yield item

    async def pause(self) -> None:
        """Read on later, with `waiting` and then `progress`."""
        writing = self._writing
        writing.readers.discard(self)
        if not writing.readers and writing.place is not None:
            if writing.pull is not None and not writing.pull.done():
                await asyncio.wait([writing.pull])
            if not writing.readers:
                writing.rest()
        elif writing.place is not None and writing.place.visitor == self.visitor:
            self._writings.line.hand_on(writing.place, next(iter(writing.readers)).visitor)

    def close(self) -> None:
        """`leave`, some time soon."""
        task = asyncio.ensure_future(self.leave())
        _leaving.add(task)
        task.add_done_callback(_leaving.discard)

    async def leave(self) -> None:
        """Read no more. What nobody reads is not computed to its end."""
        writing = self._writing
        await self.pause()
        writing.known.discard(self)
        if not writing.known or writing.ended:
            self._writings.forget(writing)
        if not writing.known:
            await writing.close()


class Writings:
    """What is written now or waits for its turn, by what was asked for."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._known: dict[Texts, _Writing] = {}

    def reader(self, texts: Texts) -> Reader:
        """A reader of these texts: of those that are written already, where somebody asked for the same.

        Raises ValueError for what cannot be asked.
        """
        services.check_texts(*texts)
        writing = self._known.get(texts)
        if writing is None or writing.ended:
            writing = self._known[texts] = _Writing(texts)
        return Reader(self, writing)

    def begin(self, writing: _Writing, place: Place, turn: ExitStack) -> None:
        """A turn has come: those that wait for texts of the same two models have it too, as one batch."""
        together = [writing, *self._alike(writing, place)]
        if len(together) == 1:
            writing.begin(place, turn)
            return
        batch = _Together(place, turn, together, self.line.hand_on)
        for number, one in enumerate(together):
            own = ExitStack()
            own.callback(batch.rest, one)
            one.begin(place, own, _Row(batch, number))

    def _alike(self, writing: _Writing, place: Place) -> list[_Writing]:
        """What can be written with this one, of each visitor one, first come first."""
        if writing.steps is not None or not services.writes_together(*writing.texts.models):
            return []
        found, keys = [], {place.key}
        for one in self._known.values():
            if one is writing or one.texts.models != writing.texts.models or not one.waits:
                continue
            key = next(reader.place.key for reader in one.known if reader.place is not None)
            if key not in keys and len(found) < BATCH - 1:
                found.append(one)
                keys.add(key)
        return found

    def forget(self, writing: _Writing) -> None:
        """Whoever asks for the same texts from now on has them written anew."""
        if self._known.get(writing.texts) is writing:
            del self._known[writing.texts]


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, in a thread of the texts' own, where it knows whose request it is for."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_pool, context.run, function, *arguments)


writings = Writings(services.texts_line)
