"""The commands of `python -m core`: progress bars and printing; all they compute is done by the library.

What each of them understands stands in `arguments`, which loads nothing heavy. Nothing in `core` imports this package except
`core.__main__`.
"""
