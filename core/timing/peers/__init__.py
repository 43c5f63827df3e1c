"""This project beside other programs: the same model, weights and prompt, timed in turn in one run.

What a program has to do to take part (`peer`), those that take part: this project's own decoders (`own`), transformers (`stock`), a
compiled decoder in plain PyTorch after gpt-fast (`plain`) and llama.cpp (`llama`), which reads the weights from a file that is
written here (`gguf_export`); how they take turns and are held against the model's own forward (`turns`), and the record that
comes of it (`bench`).
"""
