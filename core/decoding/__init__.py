"""Decoding token by token: fast steps of a model, dense or shared, and two models continuing one prompt in turns.

What a model like Llama is made of is a `recipe`. On a GPU steps are recorded as CUDA graphs (`graph`) over preallocated keys
and values (`buffers`): by a recipe, as few Triton kernels (`plain_step`: products in `skinny`, attention in `newest`, one kernel
after the other by `overlap`), else by the model's own code with attention in `kernels`. On a CPU they are made by a recipe over
buffers that can be read as a cache (`steps`): in one call of compiled C (`compiled`, `compiler`), or a few torch calls (`lean`).
Everywhere else they are the model's own forward (`eager`). `start` chooses. Imports `core.sharing`; `core.timing` and the
page build on it.
"""
