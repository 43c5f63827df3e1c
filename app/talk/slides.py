"""Which slides the talk has, in which order, and which view of the page each of them belongs to."""

import json
from typing import NamedTuple

from app import text


class Slide(NamedTuple):
    """One slide. name: in the address, and of its words in `text.TALK`. view: where whoever leaves the talk here goes on."""

    name: str
    view: str

    @property
    def title(self) -> str:
        """What stands on top of it."""
        return text.TALK[self.name]["title"]


SLIDES = (
    Slide("attention", "similarity"),
    Slide("alike", "similarity"),
    Slide("share", "how"),
    Slide("part", "generate"),
    Slide("cost", "scores"),
    Slide("guide", "where"),
    Slide("best", "where"),
    Slide("saves", "speed"),
    Slide("mends", "scores"),
    Slide("turn", "generate"),
)
"""In the order in which they are shown."""


def as_json() -> str:
    """All that the browser has to know before it asks for what a slide shows: words are there at once."""
    return json.dumps([{**text.TALK[slide.name], "name": slide.name, "view": slide.view} for slide in SLIDES])
