"""The switch between the three levels of wording, for the bar; `page/levels.js` is what it does."""

from html import escape

from app import levels, text


def level_switch() -> str:
    """A list of the levels. Until the script has read address and memory, the level of students is chosen."""
    options = "".join(
        f'<option value="{level}"{" selected" if level == levels.STUDENT else ""}>{escape(title)}</option>'
        for level, title in text.LEVELS.items()
    )
    return (
        f'<select id="level" class="level" data-usual="{levels.STUDENT}" aria-label="{escape(text.LEVEL_LABEL)}" '
        f'title="{escape(text.LEVEL_HINT)}">{options}</select>'
    )
