"""The file to take away: it has everything that the page knows, loads nothing, runs nothing, and takes names as text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app import settings, text, units
from app.panels import take_away as panel
from app.take_away import citation, figures
from app.take_away.comparison import Hardware, Sizes, Texts, gather, texts_of
from app.take_away.page import first_score, html_of, merged, write
from core.plan import SharingPlan
from tests.test_docs import README

URL = "http://127.0.0.1:7860/?view=scores&model=demo&plan=17-22"
SIZES, HARDWARE = (2, 1000, 500, "float16", "reuse"), ("NVIDIA H200", 1, 16, 8192, "bfloat16", "measured")
NASTY = "<script>alert(1)</script> & \"quoted\" 'too' </pre>"


class Read(HTMLParser):
    """Tags, attributes, the rows of tables, and the words of a file; every tag that is opened has to be closed."""

    VOID = frozenset({"meta", "br", "wbr"})

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.words, self.tags, self.attributes, self.open, self.tables, self.cell = "", [], [], [], [], None
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def rows(self, first: str) -> list[list[str]]:
        """The rows of the table whose first column has this title."""
        return next(table[1:] for table in self.tables if table[0][0] == first)


@pytest.fixture(scope="module")
def found():
    texts = Texts("Dense", f"once {NASTY}", "Shared · 17-22", "twice\nthrice", "They part.")
    return gather({"model": "demo", "plan": "17-22"}, URL, Sizes(*SIZES), Hardware(*HARDWARE), texts)


@pytest.fixture(scope="module")
def file(found) -> Read:
    return Read(html_of(found))


def test_title_model_plan_version_commit_and_link_are_in_it(found, file):
    for words in ("demo with plan 17-22", text.TITLE, settings.VERSION, found.commit, found.plan.describe(), URL):
        assert words in file.words
    assert ("href", URL) in file.attributes


def test_it_loads_nothing_and_runs_nothing(found, file):
    source = html_of(found)
    assert not {"script", "img", "link", "iframe", "object", "embed", "image", "use", "form", "base"} & set(file.tags)
    assert not [name for name, _ in file.attributes if name.startswith("on") or name in ("src", "srcset", "xlink:href")]
    assert "url(" not in source and "@import" not in source
    assert all(value.startswith(("http://", "https://", "#")) for name, value in file.attributes if name == "href")
    assert "default-src 'none'" in source and len(source.encode()) < 200_000


def test_rows_of_savings_are_those_of_the_frame(found, file):
    expected = [
        [
            text.QUANTITIES[row.quantity][0], units.amount(row.dense, row.unit), units.amount(row.shared, row.unit),
            units.saved(row.saved_percent),
        ]
        for row in found.savings.itertuples()
    ]  # fmt: skip
    assert file.rows("Quantity") == expected and len(expected) == 4 and set(found.savings.context) == {1000}


def number(words: str) -> float:
    return float(words.replace(",", "").replace("−", "-").replace("±0", "0"))


def test_rows_of_scores_are_those_of_the_frame(found, file):
    rows = file.rows("Task · score")
    assert len(rows) == len(found.scores) > 4
    for row, score in zip(rows, found.scores.itertuples(), strict=True):
        assert row[0].startswith(f"{score.task} · {score.metric}") and row[1] == f"{score.n:,}"
        change = -score.drop if score.higher_is_better else score.drop
        told = ((score.against, score.against_stderr), (score.plan, score.plan_stderr), (change, score.drop_stderr))
        for cell, (value, error) in zip(row[2:5], told, strict=True):
            exact = 0.0005001 if abs(value) < 100 else 0.5001
            assert [number(part) for part in cell.split(" ± ")] == pytest.approx([value, error], abs=exact)
        assert row[-1].startswith(score.worse)


def test_rows_of_timings_are_those_of_the_records(file, found):
    assert len(found.timed) > 0
    rows = [row for row in file.rows("Machine")]
    assert [row[-1] for row in rows] == [f"× {1 / ratio:.2f}" for ratio in found.timed.ratio]


def test_what_others_wrote_is_text(file):
    assert NASTY in file.words and "twice\nthrice" in file.words and "They part." in file.words


def test_commands_and_citations_are_in_it(found, file):
    assert found.commands and all(command in file.words for command in merged(found.commands))
    assert all(entry in file.words for entry in citation.bibtex())


def test_the_citations_are_those_of_the_readme():
    paper, software = citation.bibtex()
    assert software in README
    flat = re.sub(r"[{}\s]", "", README)
    for value in re.findall(r"= \{(.*)\}", paper)[:-1]:
        assert re.sub(r"[{}\s]", "", value) in flat


def test_the_headline_says_where_each_number_is_from(file):
    for words in ("−10.4%", text.TAKE_PREDICTED, text.TAKE_MEASURED, "16 × 8K tokens, NVIDIA H200, bfloat16"):
        assert words in file.words


def test_a_head_map_goes_along():
    record = next(
        one
        for one in json_records("results/demo")
        if one["kind"] == "head-mapped" and one["task"] == "demo_recall" and not one["options"]
    )
    view = {"model": "demo", "plan": record["plan"], "heads": json.dumps(record["head_map"])}
    found = gather(view)
    rows = Read(html_of(found)).rows("Follower")
    assert rows == [[layer, " ".join(map(str, heads))] for layer, heads in record["head_map"].items()]
    [score] = found.scores[found.scores.task == "demo_recall"].plan
    assert score == record["metrics"]["exact_match"]["value"] if "exact_match" in record["metrics"] else score
    assert found.timed.empty and text.HEAD_MAPPED in found.plan_words


def json_records(folder: str) -> list[dict]:
    from tests.test_docs import ROOT

    return [json.loads(path.read_text()) for path in sorted((ROOT / folder).glob("*/*.json"))]


def test_what_is_not_known_is_said(folder):
    file = Read(html_of(gather({"model": folder, "plan": "2-4"})))
    assert file.words.count(text.TAKE_UNKNOWN) == 2
    for words in (text.TAKE_NOT_TIMED, text.TAKE_NOT_SCORED):
        assert words in file.words
    assert text.TAKE_SECTIONS["texts"] not in file.words


def test_the_dense_plan_and_a_tuned_model_have_a_file_too():
    assert "demo with plan dense" in Read(html_of(gather({"model": "demo", "plan": "dense"}))).words
    tuned = gather({"model": "demo-tuned-17-22", "plan": "17-22"})
    assert len(tuned.scores) and set(tuned.scores.task) >= {"demo_recall"}


def test_the_name_of_the_file_says_what_it_is_of(found):
    path = write(found)
    assert path.suffix == ".html" and "demo" in path.name and "17-22" in path.name and "/" not in path.name


def test_the_panel_makes_it_or_says_why_not():
    told = json.dumps({"url": URL, "dense": "a", "shared": "b"})
    path, error = panel.make({"model": "demo", "plan": "17-22"}, told, *SIZES, *HARDWARE)
    assert not error and URL.replace("&", "&amp;") in Path(path).read_text(encoding="utf-8")
    path, error = panel.make({"model": "demo", "plan": "22-17"}, "", *SIZES, *HARDWARE)
    assert path is None and "reversed" in error
    path, error = panel.make({"model": "demo", "plan": "17-22"}, "", *SIZES, "no such chip", *HARDWARE[1:])
    assert path is None and "There is no hardware" in error


@pytest.mark.parametrize(
    "told", ["", "{", "[]", "7", "null", "[" * 100_000, json.dumps({"url": "javascript:alert(1)"}), "x" * 1_000_000]
)
def test_what_the_browser_tells_may_be_anything(told):
    assert texts_of(told) == ("", None)


@pytest.mark.parametrize("plan", ["", "0-1", "2-4-6,7-9", "0-23", "1_3"])
def test_the_strip_has_a_tile_for_each_layer_and_an_arc_for_each_follower(plan):
    parsed = SharingPlan.parse(plan, 24)
    drawn = figures.strip(parsed)
    assert drawn.count("<rect") == 24 and drawn.count("<path") == len(parsed.followers)
    assert not re.search(r'"-\d', drawn) and "nan" not in drawn


def test_commands_that_differ_in_tasks_alone_are_one():
    asked = ["a --plan 1-2 --tasks x --limit 5", "a --plan 1-2 --tasks y,x --limit 5", "a --plan 1-2 --tasks z", "b"]
    assert merged(asked) == ["a --plan 1-2 --tasks x,y --limit 5", "a --plan 1-2 --tasks z", "b"]


def test_the_score_of_the_headline_is_the_one_that_tells_most(found):
    first = first_score(found.scores)
    certain = (found.scores["drop"] / found.scores.drop_stderr)[found.scores.higher_is_better]
    assert first.drop / first.drop_stderr == pytest.approx(certain.abs().max())
    assert first_score(found.scores[:0]) is None


def test_signs():
    said = [figures.signed(value, 1) for value in (1.24, -1.26, 0.04, -0.04)]
    assert said == ["+1.2", "−1.3", "±0", "±0"]
