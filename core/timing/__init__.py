"""Timing prefill and decoding of the dense and the shared model in turn, in one run on one machine.

Both models at one workload (`measure`) by one clock (`clock`), what is timed beside them (`probes`), and the records
that come of it (`bench`); other programs beside this one (`peers`). Imports `core.decoding`, `core.sharing`, `core.cost` and
`core.records`, where the timings are kept.
"""
