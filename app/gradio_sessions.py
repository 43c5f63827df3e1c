"""What gradio keeps of every session, without what this page does not need.

For each new session gradio 6 makes the configuration of every component anew, on the event loop, for links that store the
whole page ("deep links"): 35 ms in which nobody else is answered, and 0.6 MB that stay for the last 10,000 sessions. Each
call of a program is a session. The page has links of its own (`app.options`), so that none of it is made.

Nor does it forget the session of a program whose answer was read: its queue stays among the last 2,000, its state
among the last 10,000, and the empty set of its events for ever: 45 KB a call. `forget` does, and a task of the server calls it (`app.server.front`).
"""

from datetime import datetime, timedelta
from typing import Any

from gradio.state_holder import SessionState

IDLE = timedelta(minutes=1)
"""After this a session that holds nothing is forgotten: if its page asks again, it gets a new one that is equal."""
CLOSED = timedelta(hours=1)
"""After this so is one whose page was closed, as gradio forgets its states then."""


class _NoBlocks:
    """Blocks without components, of which no configurations are made."""

    blocks: tuple[()] = ()

    def __init__(self, blocks: Any) -> None:
        self.default_config = blocks.default_config


class _NoConfig(dict):
    """Configurations that are not kept."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


_init = SessionState.__init__


def _light_init(self: SessionState, blocks: Any) -> None:
    _init(self, _NoBlocks(blocks))  # type: ignore[arg-type]
    self.config_values = _NoConfig()


def _nothing(self: SessionState, *_: Any) -> None:
    """In place of what would make one component's configuration after each update."""


def lighten() -> None:
    """Have sessions keep no configurations from now on."""
    SessionState.__init__ = _light_init  # type: ignore[method-assign]
    SessionState._update_config = _nothing  # type: ignore[method-assign]
    SessionState._update_value_in_config = _nothing  # type: ignore[method-assign,assignment]


def forget(app: Any, now: datetime | None = None) -> int:
    """Drop what the sessions of gradio's `app` left that nobody will ask for; how many sessions these were.

    In the event loop of the server, where its queues are used.
    """
    blocks, holder, now = app.get_blocks(), app.state_holder, now or datetime.now()
    queue = blocks._queue
    over = [name for name in [*holder.session_data] if _is_over(name, blocks, holder, now)]
    over += [name for name, events in queue.pending_event_ids_session.items() if not events and name not in holder]
    for name in over:
        queue.pending_event_ids_session.pop(name, None)
        queue.pending_messages_per_session.pop(name, None)
        with holder.lock:
            holder.session_data.pop(name, None)
            holder.time_last_used.pop(name, None)
    return len(over)


def _is_over(name: str, blocks: Any, holder: Any, now: datetime) -> bool:
    """Whether nothing of a session is waited for or computed, and nobody came back to it, or nobody would miss it."""
    session, idle = holder.session_data[name], now - holder.time_last_used.get(name, now)
    unread = blocks._queue.pending_event_ids_session.get(name, ())
    if any(event in blocks._queue.event_ids_to_events for event in unread):
        return False
    as_new = not session.state_data and session.blocks_config.blocks == blocks.default_config.blocks
    if as_new and not unread:
        return idle > IDLE
    return idle > CLOSED and (as_new or session.is_closed)
