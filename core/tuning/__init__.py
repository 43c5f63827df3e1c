"""Training a model on with a sharing plan in place, on transformers' Trainer.

What decides the weights (`recipe`); documents from files and hub data sets (`sources`) as token ids, with what counts
in the loss (`encoding`), as rows in the order of training, with a part held out by document (`rows`). The loss, from text
or from the dense model (`objectives`), on held-out text (`held_out`); the Trainer that takes them (`trainer`), LoRA
(`lora`), a run with its checkpoints, its record and the folder at its end (`run`), and its model card (`card`).
Imports `core.models`, `core.sharing`, `core.records` and `core.tokens`; `recipe` needs no torch.
"""
