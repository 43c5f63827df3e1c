"""What one explaining sentence has beside its wording in `app.text`."""

from typing import NamedTuple


class Wording(NamedTuple):
    """The other two levels of a sentence whose wording for students stands in `app.text`.

    newcomer: no word of the field that is not explained in passing, the picture of readers and their marks, short
    sentences. researcher: exact terms, formulas, caveats. Neither states a number that the sentence for students does
    not state.
    """

    newcomer: str
    researcher: str
