"""Accuracy: scores of plans on benchmarks by lm-eval, and what can be said about two evaluations.

Benchmarks by name (`catalogue`) and lists of them (`suites`), with local documents (`task_data`) and of one's own
(`own_benchmarks`). Running them: `evaluate` measures and stores what is missing of all `measurements`; how (`options`), what is
asked (`documents`), the model as lm-eval sees it (`harness`), what it found (`outcome`), where a run stands (`progress`), over
several `processes` or a Ray `cluster`. Afterwards: two evaluations compared (`compare`), single answers side by side
(`answers`), what a plan loses on a task (`score_drop`). Over all records: paired tests (`paired`), kept so that answers
are read once (`losses`), which plans are worse and which tasks can tell (`resolve`), in plain words (`findings`).
Imports `core.models`, `core.sharing`, `core.records` and `core.tasks`; neither `core.damage` nor `core.timing`.
"""
