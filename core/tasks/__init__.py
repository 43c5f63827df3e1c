"""The project's own lm-eval tasks: YAML files, their documents, and what scores them.

lm-eval alone can read this folder (`--include_path`), so nothing in it imports the rest of the project.
"""

from pathlib import Path

TASKS = Path(__file__).parent
"""The folder of the YAML files and their documents."""
