"""The commands of `python -m core`: arguments, progress bars and printing; all they compute is done by the library.

Nothing in `core` imports this package except `core.__main__`.
"""
