"""Timing prefill and decoding of the dense and the shared model in turn, in one run on one machine.

Imports `core.decoding`, `core.models`, `core.cost` and `core.records`, where the timings are kept.
"""
