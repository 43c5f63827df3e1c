"""The explaining texts of the page for newcomers and for researchers; those for students are the ones in `app.text`.

One picture runs through all texts for newcomers: the layers are readers who go over the text one after another. Each
marks the words that matter for the next one (the attention weights); followers take over the leader's marks. For every
word a reader keeps a label, to find it again (the key), and a note on what it says (the value); a follower keeps notes
only.
"""

from app.wording.form import Wording
from app.wording.glossary import GLOSSARY
from app.wording.hints import HINTS
from app.wording.how import HOW
from app.wording.leads import LEADS
from app.wording.warnings import WARNINGS

WORDINGS: dict[str, Wording] = {**LEADS, **WARNINGS, **HINTS, **HOW, **GLOSSARY}
"""Sentence of `app.text` → its other two wordings."""

__all__ = ["WORDINGS", "Wording"]
