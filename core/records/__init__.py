"""Files that keep what was measured: one file a point, read into one table; no torch.

Scores (`scores`), timings (`timings`), sweeps and searches (`searches`), and where a measurement comes from
(`provenance`). Imports `core.plan` alone.
"""
