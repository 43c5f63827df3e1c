"""The arguments of each command, apart from what it does: `--help` and bad input wait for no library.

These modules load neither torch nor transformers nor lm-eval; what they offer stands in modules that are as light.
"""
