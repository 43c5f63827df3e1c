"""Task lists by name, apart from what reads tasks; loads nothing."""

SUITES: dict[str, tuple[str, ...]] = {"paper": ("mmlu", "glue", "gsm8k", "hellaswag")}
"""Task lists by name; `paper` is what the official implementation of Shared Attention runs, with lm-eval's defaults."""
