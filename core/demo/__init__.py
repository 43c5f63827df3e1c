"""The bundled models: the skills that they learn and are scored on (`skills`), and how they were trained (`training`).

Imports `core.plan` and `core.sharing`; `skills` imports no torch.
"""
