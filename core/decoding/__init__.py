"""Decoding token by token: fast steps of a model, dense or shared, and two models continuing one prompt in turns.

Steps are recorded as a CUDA graph (`graph`) over preallocated keys and values (`buffers`) and Triton kernels (`kernels`)
where that is possible, and are the model's own forward (`eager`) elsewhere. Imports `core.sharing`; `core.timing` and the
page build on it.
"""
