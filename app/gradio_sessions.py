"""What gradio keeps of every session, without what this page does not need.

For each new session gradio 6 makes the configuration of every component anew, on the event loop, for links that store the
whole page ("deep links"): 35 ms in which nobody else is answered, and 0.6 MB that stay for the last 10,000 sessions. Each
call of a program is a session. The page has links of its own (`app.options`), so that none of it is made.
"""

from typing import Any

from gradio.state_holder import SessionState


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
