"""Accuracy: scores of plans on benchmarks by lm-eval, and what can be said about two evaluations.

Benchmarks by name (`catalogue`) and of one's own (`own_benchmarks`, `json_lines`), running them (`evaluate`, over
several processes `processes` or a Ray cluster `cluster`), comparing two evaluations (`compare`), single answers side by
side (`answers`) and what a plan loses on a task (`score_drop`). Imports `core.models`, `core.sharing`, `core.records`.
"""
