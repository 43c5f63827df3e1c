"""What a layer can do instead of its own attention, beside reusing a leader's weights: a file for each mechanism.

`impose` makes the layers of a view do what a plan's parts say, `check_parts` refuses what a model cannot do. Each file's
docstring says the idea, and where it is from.
"""

from core.sharing.mechanisms.parts import MADE, check_parts, impose, leaves_out, stores_nothing, values_alone

__all__ = ["MADE", "check_parts", "impose", "leaves_out", "stores_nothing", "values_alone"]
