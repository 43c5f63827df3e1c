"""Reading the text of a plan: as this project writes it, as its sentences say it, and as people type it."""

import re
from dataclasses import dataclass, field, replace

from core.plan.groups import Group, check_span, layers_of, short, shown
from core.plan.parts import MECHANISMS, PHASES, Mechanism, Part, Phase

_AS_TYPED = str.maketrans({
    **dict.fromkeys("‐‑‒–—―−﹘﹣－", "-"), **dict.fromkeys("∼〜～˜", "~"), **dict.fromkeys(";；，、؛", ","),
    **dict.fromkeys("\u200b\u2060\ufeff", ""),
    **dict.fromkeys("＠﹫", "@"),
})  # fmt: skip
"""Signs that word processors, keyboards of other languages and this project's own sentences put in place of - ~ and , and
marks without a width, which go."""

LONGEST = 10_000
"""Characters of a plan's text: a thousand layers one by one have 4,000, and a sentence of `describe` has them twice."""
_LONGEST_LAYER = 9  # digits

_IN_WORDS = re.compile(r"\((?:paper notation|paper): ([^)]*)\)")
_NOTHING_ON_PAPER = re.compile(r"the paper has no notation for ([^)]*)\)|[;,] none for ([^)]*)\)")
_PARTS_IN_WORDS = re.compile(r"\(in the plan: ([^)]*)\)")
_DENSE_IN_WORDS = re.compile(r"every one of the \d+ layers computes its own attention weights \(the dense model\)\.?")

_SPAN = re.compile(r"(-?\d+)\s*([-~])\s*(-?\d+)")
_LISTED = (re.compile(r"-?\d+(?:\s*-\s*-?\d+){2,}"), re.compile(r"-?\d+(?:\s*[_>]\s*-?\d+)+"))
_LAYER = re.compile(r"(?:(?<=[-_>])\s*|^)(-?\d+)")

_WORD = re.compile(rf"(?<!\S)({'|'.join(MECHANISMS)}|SA)(?![^\W\d])", re.IGNORECASE)
_UNKNOWN_WORD = re.compile(r"([^\W\d]+\d*)\s+\d")
_SKIPPED = re.compile(r"(-?\d+)(?:-(-?\d+))?")


@dataclass
class Read:
    """What a plan's text names, not checked yet."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    listed: list[Group] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


def read_plan(text: str, num_layers: int) -> Read:
    """The spans, groups and parts in a plan's text, as `SharingPlan.parse` says. Raises ValueError with one sentence."""
    if len(text) > LONGEST:
        raise ValueError(
            f"This plan has {len(text):,} characters, and at most {LONGEST:,} are read: write spans such as 3-5; "
            f"{layers_of(num_layers)}."
        )
    found = Read()
    for word, groups in _ruled(text):
        if word == "share" and not groups:
            raise ValueError(
                f"share names no layers: write for example share 3-5, or 3-5 alone; {layers_of(num_layers)}."
            )
        if word in ("", "share"):
            if found.parts and found.parts[-1].mechanism == "skip" and re.fullmatch(r"\d+", groups):
                raise ValueError(
                    f"{shown(groups)} stands after a comma, which ends what skip rules: write skip {found.parts[-1].layers[-1]} "
                    f"{short(groups)} with a space if it is to skip too; {layers_of(num_layers)}."
                )
            for marked, phase in _marked(word, groups, num_layers):
                for part in _spans_of(marked):
                    _add_shared(found, part, phase, num_layers)
        else:
            for marked, phase in _marked(word, groups, num_layers):
                found.parts += [replace(part, phase=phase) for part in _read_parts(word, marked, num_layers)]
    return found


def _add_shared(found: Read, text: str, phase: Phase | None, num_layers: int) -> None:
    """Add what the text of one shared group names."""
    layers, is_listed = _read_group(text, num_layers)
    if phase:
        if not is_listed:
            check_span(layers[0], layers[1], num_layers)  # before a list is made of it
            layers = tuple(range(layers[0], layers[1] + 1))
        found.parts.append(Part("share", layers, phase=phase))
    elif is_listed:
        found.listed.append(layers)
    else:
        found.spans.append((layers[0], layers[1]))


def _marked(word: str, groups: str, num_layers: int) -> list[tuple[str, Phase | None]]:
    """The groups that a word rules, up to each mark, with the phase that it says; without a mark for both.

    Without a word a mark is for the group before it alone. Raises ValueError with one sentence for a mark that says nothing.
    """
    if "@" not in groups:
        return [(groups, None)]
    number = re.match(r"\d+\s+", groups) if word == "topk" else None  # is for what follows the first mark too
    found: list[tuple[str, Phase | None]] = []
    for text in _spans_of(groups) if not word else re.findall(r"[^@]+(?:@\S*)?|@\S*", groups):
        before, mark, name = text.strip().partition("@")
        phase = next((one for one in PHASES if one == name.lower()), None)
        if mark and "@" in name:
            raise ValueError(
                f"{shown(text.strip())} has two marks: leave both out for what applies in prefill and in decoding; {layers_of(num_layers)}."
            )
        if mark and phase is None:
            raise ValueError(
                f"{shown('@' + name)} is no phase: write @{' or @'.join(PHASES)} behind groups, or no mark for both; "
                f"{layers_of(num_layers)}."
            )
        if mark and not before:
            raise ValueError(
                f"{shown(text.strip())} stands behind no group: write the groups first, for example 3-5@{phase}; {layers_of(num_layers)}."
            )
        found.append((f"{number[0]}{before}" if number and found else before, phase))
    return found


def _in_signs(text: str) -> str:
    """A plan's text in this project's signs; of a sentence of `describe` what it says in signs. Empty: the dense plan."""
    text = text.translate(_AS_TYPED).strip().strip("`'\"")
    if text.lower() in ("", "dense") or _DENSE_IN_WORDS.fullmatch(text.lower()):
        return ""
    listed = ",".join(names for found in _NOTHING_ON_PAPER.findall(text) for names in found if names)
    parts = ",".join(_PARTS_IN_WORDS.findall(text))
    if described := _IN_WORDS.search(text):
        shared = ",".join(filter(None, (re.split("[;,] none for", described[1])[0].strip(", "), listed)))
    else:
        shared = listed
    text = ",".join(filter(None, (shared, parts))) if described or listed or parts else text
    joined = re.sub(r"(?<=[\d])\s*([-~_>])\s*(?=-?\d)", r"\1", re.sub(r"\s*@\s*", "@", text))
    return joined.rstrip(", \t\r\n") or joined  # a list that is being written ends with a comma


def _ruled(text: str) -> list[tuple[str, str]]:
    """The groups of a plan's text, up to the next comma or word, each with the word that rules them, in lower case.

    No word: shared groups, and whatever is no plan. `SA` rules like no word, and stays with its groups.
    """
    text = _in_signs(text)
    found = []
    for chunk in text.split(",") if text else ():
        words = list(_WORD.finditer(chunk))
        if all(word[1].lower() == "sa" for word in words):
            found.append(("", chunk))
            continue
        if before := chunk[: words[0].start()].strip():
            found.append(("", before))
        for word, following in zip(words, [*words[1:], None], strict=True):
            groups = chunk[word.end() : following.start() if following else None].strip()
            name = word[1].lower()
            found.append(("", f"SA {groups}") if name == "sa" else (name, groups))
    return found


def _spans_of(text: str) -> list[str]:
    """The shared groups of a text without commas, one by one."""
    between_spans = r"(?:(?<=\d)|(?<=@prefill)|(?<=@decode))\s+(?=(?:SA\s*)?\d+[-~_>])"
    return [part.strip() for part in re.sub(between_spans, ",", text, flags=re.IGNORECASE).split(",")]


def _read_parts(word: str, groups: str, num_layers: int) -> list[Part]:
    mechanism: Mechanism = next(one for one in MECHANISMS if one == word)
    positions = 0
    if mechanism == "topk":
        match = re.match(r"(\d+)(?=\s|$)\s*", groups)
        if match is None:
            raise ValueError(
                f"topk does not say to how many positions followers attend, with {shown(groups)} after it: write for example "
                f"topk64 10-12; {layers_of(num_layers)}."
            )
        positions, groups = _number(match[1], num_layers), groups[match.end() :]
        if positions < 1:
            raise ValueError(
                f"topk{positions} lets followers attend to no position: write 1 or more, for example topk64 10-12, or skip them; "
                f"{layers_of(num_layers)}."
            )
    if not groups:
        example = "skip 5 7" if mechanism == "skip" else f"{mechanism}{positions or ''} 10-12"
        raise ValueError(
            f"{mechanism}{positions or ''} names no layers: write for example {example}; {layers_of(num_layers)}."
        )
    if mechanism == "skip":
        return [Part("skip", tuple(layer for one in groups.split() for layer in _read_skipped(one, num_layers)))]
    return [
        Part(mechanism, _read_layers(f"{mechanism}{positions or ''}", one, num_layers), positions)
        for one in groups.split()
    ]


def _read_skipped(text: str, num_layers: int) -> range:
    match = _SKIPPED.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{shown(text)} names no layers to skip: write them one by one or as first-last, for example skip 5 7 9-12; "
            f"{layers_of(num_layers)}."
        )
    first, last = _layer(match[1], num_layers), _layer(match[2] or match[1], num_layers)
    if first < 0 or max(first, last) >= num_layers:
        raise ValueError(f"skip {text} is out of range: {layers_of(num_layers)}.")
    if last < first:
        raise ValueError(f"skip {text} is reversed: write skip {last}-{first}; {layers_of(num_layers)}.")
    return range(first, last + 1)


def _read_layers(word: str, text: str, num_layers: int) -> Group:
    """The leader and the followers in a group of `kv`, `keys` or `topk`, which `word` rules."""
    if "~" in text:
        raise ValueError(
            f"{shown(f'{word} {text}')} mixes two notations: the paper's has shared layers alone, so name the leader first, for "
            f"example {word} 3-5; {layers_of(num_layers)}."
        )
    if re.fullmatch(r"-?\d+", text):
        raise ValueError(
            f"{shown(f'{word} {text}')} names one layer only: a group needs a leader and at least one follower, for example {word} 3-5; "
            f"{layers_of(num_layers)}."
        )
    layers, is_listed = _read_group(text, num_layers)
    if is_listed:
        return layers
    check_span(layers[0], layers[1], num_layers, f"{word} ")  # before a list is made of it
    return tuple(range(layers[0], layers[1] + 1))


def _read_group(part: str, num_layers: int) -> tuple[Group, bool]:
    """The layers that a part of a plan's text names, and whether it lists them one by one."""
    written, part = part, re.sub(r"^SA\s*", "", part, flags=re.IGNORECASE)
    if any(form.fullmatch(part) for form in _LISTED):
        if part != written:
            raise ValueError(
                f"{shown(written)} mixes two notations: write {short(part)}, since the paper's has no groups of listed layers; "
                f"{layers_of(num_layers)}."
            )
        return tuple(_layer(layer, num_layers) for layer in _LAYER.findall(part)), True
    return _read_span(written, part, num_layers), False


def _read_span(written: str, part: str, num_layers: int) -> tuple[int, int]:
    match = _SPAN.fullmatch(part)
    if match is None and (word := _UNKNOWN_WORD.match(part)):
        raise ValueError(
            f"{shown(word[1])} is no mechanism: {', '.join(MECHANISMS[:-1])} and {MECHANISMS[-1]} with a number are, for example kv "
            f"20-22 or topk64 10-12; {layers_of(num_layers)}."
        )
    if match is None:
        raise ValueError(
            f"{shown(part)} is not a span: write first-last, for example 3-5, and separate spans by commas, or list the "
            f"layers of a group, for example 2-4-6 or 2_4; {layers_of(num_layers)}."
        )
    first, last = _layer(match[1], num_layers), _layer(match[3], num_layers)
    if match[2] == "-" and part != written:
        raise ValueError(
            f"{shown(written)} mixes two notations: write {part} if layer {first} is the leader, or SA {first}~{last} if it "
            f"is the first follower; {layers_of(num_layers)}."
        )
    if match[2] == "~":  # the paper's notation starts at the first follower
        if first == 0:
            raise ValueError(
                f"{shown(part)} makes layer 0 a follower, but no layer before it computes attention weights; "
                f"{layers_of(num_layers)}, and the first follower can be layer 1."
            )
        if last < first:
            raise ValueError(f"{shown(part)} is reversed: write {last}~{first}; {layers_of(num_layers)}.")
        first -= 1
    return first, last


def _layer(digits: str, num_layers: int) -> int:
    """The number of a layer. Raises ValueError with one sentence for one of more digits than any model has layers."""
    if len(digits) > _LONGEST_LAYER:
        raise ValueError(f"There is no layer {digits[:_LONGEST_LAYER]}…: {layers_of(num_layers)}.")
    return int(digits)


def _number(digits: str, num_layers: int) -> int:
    """How many positions. Raises ValueError with one sentence for more digits than any context has positions."""
    if len(digits) > _LONGEST_LAYER:
        raise ValueError(
            f"topk{digits[:_LONGEST_LAYER]}… is more positions than any model has: write a number of at most {_LONGEST_LAYER} digits; "
            f"{layers_of(num_layers)}."
        )
    return int(digits)
