"""What sharing costs in loss, and other things that layers can do, and where it costs least.

Texts to measure on (`texts`); plans as roles of layers (`roles`), many of them run on one text (`runner`) and measured
(`meter`); which plans there are (`candidates`), what they save and may cost (`budget`, `savings`); every span (`spans`), the plan
of least damage for a budget (`search`), mixtures of what layers can do (`mixtures`) and the least damage of all of them at equal
savings (`mechanisms`), which heads to map where (`head_maps`), how alike layers are (`similarity`) and
whether that tells anything (`guide`); what of all this can be chosen (`choices`). Imports `core.plan`, `core.sharing`, `core.cost`,
`core.records` and `core.demo` (for exercises). Long measurements are iterators that yield where they stand (`progress`).
"""
