"""Long-context tasks: documents that are generated, and as long as a model's own tokenizer says.

lm-eval reads the YAML files of this folder and `documents.py` by their paths; nothing here imports the project.
"""
