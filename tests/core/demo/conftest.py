"""A corpus of some sentences, in the form that `train-demo` takes."""

import lzma

import pytest


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Sixty documents to train on, twenty held out."""
    folder = tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 60), ("validation", 20)):
        documents = (
            f"{split} {n}: the old man of {n} years went down to the river at night.\n" * 3 for n in range(count)
        )
        with lzma.open(folder / f"prose_{split}.txt.xz", "wt") as file:
            file.write("<|endoftext|>\n".join(documents))
    return folder
