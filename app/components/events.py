"""How the page listens: what `click`, `change` and their like are given beside function, inputs and outputs."""

from typing import Any

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Of the page only, no endpoint; what is shown stays as it is until there is something new."""

LATEST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
"""While one is answered, the last of all later ones waits; the others are dropped."""

LIVE: dict[str, Any] = {**LATEST, "queue": False}
"""For what is quick: answered at once, while a slider is dragged."""
