"""The documentation is under test: what it names exists, what it shows runs, and its figures are those of the project."""

import contextlib
import io
import json
import re
import runpy
import shlex
import shutil
import statistics
import subprocess
from pathlib import Path

import pytest
import yaml

import core.__main__
from app import settings, text
from app.api import ENDPOINTS
from core.cost import ModelShape, decode_bytes_moved, known_shapes, parameter_count
from core.cost.shapes import _FAMILIES
from core.models import BUNDLED
from core.plan import SharingPlan
from core.records.pretraining import load_pretrainings
from core.records.scores import load_records
from core.records.searches import load_searches
from core.records.timings import load_timings
from core.records.tunings import load_tunings
from core.sharing.families import CHECKED

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "core/tasks/README.md",
    "docs/families.md",
    "docs/api.md",
    "docs/hosting.md",
    "docs/pretraining.md",
    "docs/tuning.md",
)


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document, flags=re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[str]:
    """Every line of the shell blocks, without comments and prompts, continued lines joined."""
    lines = "".join(blocks(document, "sh") + blocks(document, "console")).replace("\\\n", "").splitlines()
    lines = [re.sub(r" +", " ", line.partition("  #")[0]).removeprefix("$ ").strip() for line in lines]
    return [line for line in lines if line]


def section(title: str) -> str:
    """One section of the README."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, flags=re.MULTILINE | re.DOTALL)[1]


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


# Files


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_local_files_and_headings_resolve(document):
    content = read(document)
    for link in re.findall(r"\]\(([^)\s]+)\)", content):
        path, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in [title.lower().replace(" ", "-") for title in headings], link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_the_text_exist(document):
    for name in re.findall(r"`((?:core|app|tests|assets|results)/[\w./*-]+)`", read(document)):
        assert list(ROOT.glob(name)), name


def test_the_tree_names_every_package_and_what_it_names_exists():
    named, parents = set(), []
    for line in blocks(section("File map"), "text")[0].splitlines():
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        parents = [parent for parent in parents if parent[0] < indent]
        path = "".join(parent for _, parent in parents) + name
        parents.append((indent, name))
        assert (ROOT / path).exists() and (ROOT / path).is_dir() == path.endswith("/"), path
        named.add(path.rstrip("/"))
    packages = {path.parent for package in ("core", "app") for path in (ROOT / package).glob("*/*.py")}
    assert {path.relative_to(ROOT).as_posix() for path in packages} <= named


def test_screenshots_are_shown_and_small():
    pictures = set((ROOT / "assets" / "screenshots").iterdir())
    assert {ROOT / link for link in re.findall(r"!\[[^\]]+\]\((.*?)\)", README)} == pictures
    assert all(picture.stat().st_size < 400_000 for picture in pictures)


# Commands


@pytest.mark.parametrize("goal", ["run", "test"])
def test_the_plain_commands_are_those_of_make(goal, tmp_path):
    if not shutil.which("make"):
        pytest.skip("There is no make.")
    printed = subprocess.run(
        ["make", "-n", goal, f"VENV={tmp_path}/.venv"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace(f"{tmp_path}/", "")
    setup = [line for line in printed.splitlines() if line.startswith(("python3 -m venv", ".venv/bin/python -m"))]
    setup = [line.partition("$(")[0].replace(" --disable-pip-version-check", "") for line in setup]
    run, test = ("".join(block).splitlines() for block in blocks(README, "sh")[1:3])
    assert [" ".join(line.split()) for line in setup] == (run if goal == "run" else run[:3] + test)
    assert "CPU_TORCH_INDEX ?= https://download.pytorch.org/whl/cpu\n" in read("Makefile")
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in " ".join(README.split())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_targets_of_make_exist(document):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z]+)\b", read(document), flags=re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize(
    "command",
    [
        line
        for name in DOCUMENTS
        for line in commands(read(name))
        if "python -m core" in line or "python -m app" in line
    ],
)
def test_commands_are_understood(command):
    arguments = shlex.split(command)
    arguments = arguments[arguments.index("-m") + 1 :]
    if arguments[0] == "app":
        assert settings.Settings(_cli_parse_args=arguments[1:])
        return
    options = core.__main__.parser_of(arguments[1]).parse_args(arguments[1:])
    for plan in getattr(options, "plan", []) if arguments[1] == "evaluate" else []:
        SharingPlan.parse(plan, 30 if "SmolLM2" in command else 24)


def test_every_command_is_described():
    described = re.findall(r"^\*\*([a-z-]+)\*\*", section("Command line"), flags=re.MULTILINE)
    assert sorted(described) == sorted(core.__main__.COMMANDS)


@pytest.mark.parametrize("block", blocks(README, "console"))
def test_console_output_is_what_the_command_prints(block, capsys):
    command, _, output = block.partition("\n")
    core.__main__.main(shlex.split(command)[4:])
    assert capsys.readouterr().out == output


# Code


def test_python_blocks_run_and_print_what_stands_below_them(tmp_path):
    parts = re.split(r"^```(\w*)\n(.*?)^```$", section("As a library"), flags=re.MULTILINE | re.DOTALL)
    code = list(zip(parts[1::3], parts[2::3], strict=True))
    assert [language for language, _ in code] == ["python", "text"] * (len(code) // 2)
    for (_, source), (_, output) in zip(code[::2], code[1::2], strict=True):
        (tmp_path / "example.py").write_text(source, encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            runpy.run_path(tmp_path / "example.py")
        assert printed.getvalue() == output


# Facts


def test_the_tour_follows_the_page():
    parts = re.findall(r"^\*\*(.+?)\.\*\*", section("Tour of the page"), flags=re.MULTILINE)
    assert parts == [text.MODEL_HEADING, *text.VIEWS.values(), text.TALK_BUTTON]


def test_endpoints_are_those_of_the_app():
    assert set(ENDPOINTS) == set(re.findall(r"`/(\w+)`", section("Tour of the page")))


def test_plans_are_told_in_the_papers_notation():
    rows = re.findall(r"^\| `([\d,-]+)` \| (.+) \| (SA .+) \|$", section("Words"), flags=re.MULTILINE)
    assert rows
    for plan, words, paper in rows:
        parsed = SharingPlan.parse(plan, 32)
        assert parsed == SharingPlan.parse(paper, 32) and parsed.paper_notation == paper
        assert parsed.describe().lower().startswith(words)


def test_the_bundled_models_have_the_sizes_and_scores_that_are_told():
    told = " ".join(section("Bundled models").split())
    for folder in BUNDLED.values():
        config = json.loads((folder / "config.json").read_text())
        shape = ModelShape.from_config(config)
        millions = parameter_count(shape, config.get("sharing_plan", "")).total / 1e6
        assert f"{millions:.1f} M" in told
        assert f"{shape.num_layers} layers, width {shape.hidden_size}, {shape.num_heads} query and" in told
        assert f"{shape.num_kv_heads} key-value heads" in told
        card = (folder / "README.md").read_text(encoding="utf-8")
        scores = re.findall(r"^\| (?:prose, nats|[a-z_]+ \(exact).* \| (.+) \|$", card, flags=re.MULTILINE)
        assert len(scores) == 5 and f"| {' | '.join(scores)} |" in told


def test_families_are_those_under_test():
    told = re.search(
        r"\*\*Families\.\*\*(.*?)\*Savings\* knows all of these, and (.*?)\.", " ".join(section("Limits").split())
    )
    shared, besides = (set(re.findall(r"`(\w+)`", words)) for words in told.groups())
    assert shared == CHECKED and shared | besides <= set(_FAMILIES)
    assert f"for {len(CHECKED)} families" in " ".join(read("CHANGELOG.md").split())


def test_the_number_of_shapes_in_the_changelog():
    assert f"shapes of {len(known_shapes())} well-known models" in read("CHANGELOG.md")


def test_one_version_everywhere():
    citation = yaml.safe_load(read("CITATION.cff"))
    newest, date = re.search(r"^## \[(\d.+)\] - (.+)$", read("CHANGELOG.md"), re.MULTILINE).groups()
    assert newest == citation["version"] == settings.VERSION and date == str(citation["date-released"])
    assert f"version = {{{newest}}}" in README
    assert "2407.12866" in section("How to cite") and citation["references"][0]["url"] == text.CITATION_URL


def test_the_table_of_times_is_what_the_records_say():
    records, problems = load_timings(ROOT / "results")
    assert not problems
    points = {(r.model, r.batch_size, r.context_tokens, r.followers): r for r in records}
    rows = [line.strip("| ").split(" | ") for line in section("How the numbers are made").splitlines() if " × " in line]
    rows = [row for row in rows if len(row) == 7 and row[0] in known_shapes()]
    for model, point, followers, *figures in rows:
        batch, context = (int(part.replace(",", "")) for part in point.split(" × "))
        record = points[model, batch, context, int(followers)]
        steps_ms = [side.step_s.median * 1e3 for side in (record.dense, record.shared)]
        moved = [
            decode_bytes_moved(known_shapes()[model], plan, batch, context + 3 + record.new_tokens // 2).total
            for plan in ("", record.plan)
        ]
        ratios = [steps_ms[0] / steps_ms[1], moved[0] / moved[1]]
        assert figures == [f"{ms:.1f}" for ms in steps_ms] + [f"{ratio:.2f}" for ratio in ratios]
    assert len(rows) == 14


def test_the_table_of_cpu_times_is_what_the_records_say():
    points = {(r.plan, r.context_tokens): r for r in load_timings(ROOT / "results")[0] if r.model == "demo"}
    lines = section("How the numbers are made").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if re.match(r"\| `\d", line)]
    for plan, followers, *figures in rows:
        records = [points[plan.strip("`"), context] for context in (64, 512, 1000)]
        ratios = [record.shared.step_s.median / record.dense.step_s.median for record in records]
        assert figures == [f"{ratio:.2f}" for ratio in ratios] and int(followers) == records[0].followers
    assert len(rows) == 4


def test_the_table_of_damages_is_what_the_records_say():
    searches = {kept.record.name: kept for kept in load_searches(ROOT / "results")[0] if kept.record.model == "demo"}
    rows = [
        line.strip("| ").split(" | ") for line in section("Bundled models").splitlines() if re.match(r"\| \d", line)
    ]
    for size, *figures in rows:
        places = [("followers=23+spans+beam=4", "contiguous"), ("followers=23+spans+beam=4", "found")]
        places.append((f"followers={size}+spans+beam=4+heads=damage", "chosen"))
        points = [
            next(
                p
                for p in searches[f"search+{name}"].points
                if (p.role, p.followers, p.split) == (role, int(size), "held-out")
            )
            for name, role in places
        ]
        assert figures == [f"{point.damage:.3f} ± {point.stderr:.3f}" for point in points]
        assert {point.tokens for point in points} == {8192}
    assert len(rows) == 2


def test_the_table_of_tuned_models_is_that_of_the_records():
    records = load_tunings(ROOT / "results")
    expected = [_tuned_row(record, records) for record in records if not record.control]
    rows = re.findall(r"^\| (?:demo|SmolLM2).*$", read("docs/tuning.md"), flags=re.MULTILINE)
    assert sorted(rows) == sorted(expected)


def _tuned_row(record, records) -> str:
    """A model's row, with the control of its recipe and seed; a distilled one is held against the dense model."""
    dense, before, tuned = record.held_out_dense[0], record.held_out[0][1], record.saved[1]
    distilled, corrections = record.objective == "distillation", record.corrections
    matching = [
        one
        for one in records
        if one.control and (one.model, one.data, one.recipe) == (record.model, record.data, record.recipe)
    ]
    control = dense if distilled else next((one.saved[1] for one in matching), None)
    left = "–" if control is None else f"{100 * (tuned - control) / (before - dense):.1f}%"
    how = record.method + ", distilled" * distilled + (", corrected" if corrections else "")
    losses = " | ".join("–" if loss is None else f"{loss:.3f}" for loss in (dense, before, control, tuned))
    seed = record.recipe["seed"]
    return f"| {record.model} | {record.plan} | {how} | {seed} | {losses} | {left} | {record.seconds:.0f} |"


BITS = {"full": "", "8-bit weights": "weights=int8", "4-bit weights": "weights=int4", "4-bit cache": "kv_cache=quantized-4",
        "4-bit cache, 8-bit weights": "kv_cache=quantized-4, weights=int8"}  # fmt: skip


def test_the_table_of_fewer_bits_is_that_of_the_records():
    models = ("demo", "demo-12-22-lora", "demo-control-lora")
    scores = {
        (one.compression, one.kind, one.plan, one.task): one.metrics
        for one in load_records(ROOT / "results")[0]
        if one.model in models and not one.limit
    }
    rows = re.findall(r"^\| (full|\d-bit[^|]*?) \|(.*)\|$", read("docs/tuning.md"), flags=re.MULTILINE)
    assert [name for name, _ in rows] == list(BITS)
    kinds = (("dense", ""), ("direct", "12-22"), ("head-mapped", "12-22"), ("tuned", "12-22"), ("control", ""))
    for name, cells in rows:
        expected = []
        for kind in kinds:
            prose, recall = (scores[(BITS[name], *kind, f"demo_{task}")] for task in ("prose", "recall"))
            expected.append(f"{prose['bits_per_byte'].value:.3f} / {recall['exact_match'].value:.1%}")
        assert [cell.strip() for cell in cells.split("|")] == expected, name


def test_the_table_of_when_to_share_is_that_of_the_records():
    runs = {(run.share_from, run.seed): run.scores for run in load_pretrainings(ROOT / "results")[0]}
    rows = re.findall(r"^\| (0%|50%|80%|never) \|(.*)\|$", read("docs/pretraining.md"), flags=re.MULTILINE)
    moments = {"0%": 0.0, "50%": 0.5, "80%": 0.8, "never": None}
    assert [name for name, _ in rows] == list(moments)
    for name, cells in rows:
        at, told = moments[name], [cell.strip() for cell in cells.split("|")]
        scores = {
            score: [runs[at, seed][score].value for seed in range(3)]
            for score in ("prose_nats_per_token", "recall", "where_is", "arithmetic")
        }
        differences = [
            value - runs[None, seed]["prose_nats_per_token"].value
            for seed, value in enumerate(scores["prose_nats_per_token"])
        ]
        mean, error = statistics.mean(differences), statistics.stdev(differences) / 3**0.5
        against = "–" if at is None else f"{mean:+.4f} ± {error:.4f}".replace("-", "−")
        prose, *shares = ([format(value, ".3f" if "prose" in name else ".0%") for value in values]
                          for name, values in scores.items())  # fmt: skip
        assert told == [", ".join(prose), against, *map(", ".join, shares)], name
