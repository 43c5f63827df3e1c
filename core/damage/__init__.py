"""What sharing costs in loss, and where it costs least.

Texts to measure on (`texts`), many plans on one text (`runner`), every span (`spans`), the plan of least damage for a
budget (`search`), which heads to map where (`head_maps`), how alike layers are (`similarity`) and whether that tells
anything (`guide`). Imports `core.plan`, `core.sharing`, `core.cost`, `core.records` and `core.demo` (for exercises).
"""
