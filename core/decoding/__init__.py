"""Decoding token by token: fast steps of a model, dense or shared, and two models continuing one prompt in turns.

On a GPU steps are recorded as a CUDA graph (`graph`) over preallocated keys and values (`buffers`) and Triton kernels
(`kernels`) where that is possible. On a CPU they are made by what a model's modules are (`recipe`), over buffers that can be
read as a cache (`steps`): in one call of compiled C (`compiled`, `compiler`), or a few torch calls (`lean`). Everywhere else
they are the model's own forward (`eager`). `start` chooses. Imports `core.sharing`; `core.timing` and the
page build on it.
"""
