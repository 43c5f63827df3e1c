"""How to cite the paper and this software, as BibTeX made of CITATION.cff."""

from functools import cache
from typing import Any

import yaml

from core.places import CITATION


@cache
def bibtex() -> tuple[str, str]:
    """The entries of the paper whose method is explored, and of this software."""
    cited = yaml.safe_load(CITATION.read_text(encoding="utf-8"))
    paper = cited["references"][0]
    number = next(one["value"] for one in paper["identifiers"]).removeprefix("arXiv:")
    article = {
        "title": f"{{{paper['title']}}}", "author": _authors(paper["authors"]),
        "journal": f"arXiv preprint arXiv:{number}", "year": paper["year"], "url": paper["url"],
    }  # fmt: skip
    software = {
        "title": cited["title"], "author": _authors(cited["authors"]), "version": cited["version"],
        "year": cited["date-released"].year,
    }  # fmt: skip
    first = paper["authors"][0]["family-names"].lower()
    return _entry("article", f"{first}{paper['year']}shared", article), _entry(
        "software", "shared_attention_explorer", software
    )


def _entry(kind: str, key: str, fields: dict[str, Any]) -> str:
    width = max(map(len, fields))
    lines = ",\n".join(f"  {name:<{width}} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"


def _authors(authors: list[dict[str, str]]) -> str:
    """People as BibTeX sorts them; a group keeps its name whole."""
    names = [
        f"{{{one['name']}}}" if "name" in one else f"{one['family-names']}, {one['given-names']}" for one in authors
    ]
    return " and ".join(names)
