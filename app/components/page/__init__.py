"""What runs in the browser: one file for each part of the page, and `explorer.js`, which holds them together."""

from pathlib import Path


def page_script(name: str) -> str:
    """The script of a part, as `js_on_load` of its component."""
    return (Path(__file__).parent / f"{name}.js").read_text(encoding="utf-8")
