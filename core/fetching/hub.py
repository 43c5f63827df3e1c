"""The files of a model on the Hugging Face hub."""

from pathlib import PurePosixPath

from huggingface_hub import HfApi, get_token, hf_hub_url

from core.fetching.download import Remote

_KINDS = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja", ".md"})
_TIMEOUT_S = 10


def files_of(hub_id: str) -> list[Remote] | None:
    """What loading the model takes, all of one revision; None when the hub does not answer."""
    try:
        found = HfApi(library_name="shared-attention").model_info(hub_id, files_metadata=True, timeout=_TIMEOUT_S)
    except Exception:  # noqa: BLE001 - its client raises many kinds; whatever it is, there is another source
        return None
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return [
        Remote(
            hf_hub_url(hub_id, file.rfilename, revision=found.sha),
            file.size or 0,
            (file.lfs and file.lfs.sha256) or "",
            headers=headers,
        )
        for file in found.siblings or []
        if "/" not in file.rfilename and PurePosixPath(file.rfilename).suffix in _KINDS
    ]
