"""What may be loaded at all: nothing that a model folder says or holds is believed before it was looked at.

A folder is somebody else's: an upload, a download, a repository. Its files are looked at as bytes and plain JSON, with
bounds on everything that decides how much is built, before a library that trusts them opens one. No torch.
"""

from core.admission.folder import check_folder
from core.admission.gguf_header import check_gguf
from core.admission.limits import NO_CODE, Limits, Refused

__all__ = ["NO_CODE", "Limits", "Refused", "check_folder", "check_gguf"]
