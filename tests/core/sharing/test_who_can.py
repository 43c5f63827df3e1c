"""The table family × mechanism of docs/families.md says what the code does."""

from pathlib import Path

import pytest

from core import SharingPlan, share_attention
from core.plan import MECHANISMS, Part
from core.sharing.families import KNOWN, attention_modules, has_attention_function, layer_kinds
from tests.core.sharing import test_unknown_families as unknown
from tests.support.families import VARIANTS, fastest

DOCUMENT = Path(__file__).parents[3] / "docs" / "families.md"
HEADING = "## Other mechanisms of a plan"
REFUSED = {"skip": "cannot skip attention", "topk": "cannot choose positions"}
IN_EAGER_MODE = "falcon"  # else its own forward calls a fused function, which reads what was chosen


def table() -> dict[str, dict[str, str]]:
    """Family → mechanism → cell."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    return {family: dict(zip(head[1:], cells, strict=True)) for family, *cells in rows}


TABLE = table()


def test_the_table_has_every_family_that_is_tested():
    assert list(TABLE) == sorted(KNOWN) + sorted(set(unknown.RIGHT) - {"qwen2_moe"}) + ["qwen2_moe"]
    assert all(tuple(cells) == MECHANISMS for cells in TABLE.values())


def model_of(family: str):
    return unknown.make(family, unknown.RIGHT[family]) if family in unknown.RIGHT else fastest(family)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("family", TABLE)
def test_what_the_table_says_is_so(family, mechanism):
    model, cell = model_of(family), TABLE[family][mechanism]
    kinds = layer_kinds(model)
    pair = (kinds[0], kinds.index(kinds[0], 1))
    layers, positions = ((1,) if mechanism == "skip" else pair), 3 * (mechanism == "topk")
    groups, parts = ((pair,), ()) if mechanism == "share" else ((), (Part(mechanism, layers, positions),))
    plan = SharingPlan((), len(kinds), groups, parts)
    if cell.startswith("✓"):
        share_attention(model, plan)
        masks = not has_attention_function(attention_modules(model)[0]) and not family.startswith(IN_EAGER_MODE)
        assert cell == ("✓, masked" if mechanism == "topk" and masks else "✓")
    else:
        assert cell == "refused"
        with pytest.raises(ValueError, match=REFUSED[mechanism]):
            share_attention(model, plan)


def test_variants_are_forms_of_families_in_the_table():
    assert {kind for kind, _ in VARIANTS.values()} <= set(TABLE)
