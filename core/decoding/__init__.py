"""Decoding token by token: fast steps of a model, dense or shared, and two models continuing one prompt in turns.

Steps are recorded as a CUDA graph (`graph`) over Triton kernels (`kernels`) where that is possible, and are the model's
own forward elsewhere. Imports `core.sharing`; `core.timing` and the page build on it.
"""
