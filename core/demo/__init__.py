"""The bundled models: the skills that they learn and are scored on (`skills`), and how they were trained.

What decides their weights (`recipe`), what they learn from (`corpus`), the training of one model (`trainer`) and of the two
(`training`), runs that share from other moments on and of which scores are kept (`grid`), scores on held-out data (`scores`)
and the model card that tells all this (`card`). Imports `core.plan`, `core.sharing` and
`core.records`; `skills` imports no torch.
"""
