"""One layer of a decode step, enlarged: its tensors and matrices with their shapes, from top to bottom, as SVG.

Text is 16 units high and the drawing 308 wide, so that nothing is smaller than 16 pixels where the drawing is at least
as wide as a telephone. A leader has its values on the left and hands its attention weights on to the right; a follower
takes them from the left.
"""

from html import escape

from app import text, units
from app.components.step_rows import mlp_words, size
from app.step import MECHANISM_OF, Step
from core.cost import LayerStep
from core.cost.mechanisms import KEPT, WHOLE

_WIDTH, _COLUMN, _GAP = 308, 98, 7
_PAIR = 2 * _COLUMN + _GAP  # what queries and keys take together
_LINE = 20  # from one line of text to the next
_INPUT, _MATRICES, _TENSORS, _CACHE, _SCORES, _WEIGHTS, _VALUES, _OUTPUT, _SUM, _MLP = (
    0, 48, 136, 184, 272, 338, 406, 472, 538, 584,
)  # fmt: skip


def layer_drawing(step: Step, layer: int, role: str) -> str:
    """The drawing of `layer`, which is a role of `app.step.Row` under the step's plan."""
    return _Drawing(step, layer, role).svg()


def weights_at() -> float:
    """Where attention weights leave and enter, from the top, as a share of a drawing's height."""
    return (_WEIGHTS + _height(2) / 2) / _ALL


def cache_at() -> float:
    """Where a leader's cached keys and values are read, likewise."""
    return (_CACHE + _height(3) / 2) / _ALL


def symbol(step: Step, window: int | None) -> str:
    """What stands for the number of tokens that a layer attends to: all T of them, or the W of its window."""
    return "W" if step.attended(window) < step.context else "T"


class _Drawing:
    """The boxes of one layer and the arrows between them."""

    def __init__(self, step: Step, layer: int, role: str) -> None:
        self.step, self.layer, self.role = step, layer, role
        self.leader = step.plan.borrowers.get(layer, step.shape.native_sources[layer])
        self.kept = KEPT[MECHANISM_OF[role]] if role in MECHANISM_OF else WHOLE
        self.cost: LayerStep = step.costs[layer]
        self.parts: list[str] = []
        order = "VKQ" if role in ("leader", "read") else "QKV"
        self.column = {letter: index * (_COLUMN + _GAP) for index, letter in enumerate(order)}
        self.pair_x = _COLUMN + _GAP if role in ("leader", "read") else 0
        self.tokens = symbol(step, step.shape.sliding_windows[layer])

    @property
    def positions(self) -> int:
        """To how many positions it attends; of `topk` alone."""
        return self.step.plan.positions_of(self.layer)

    @property
    def follows(self) -> bool:
        return self.role == "follower"

    def svg(self) -> str:
        self._input_and_projections()
        self._cache_and_weights()
        height = self._output()
        positions = f"{self.positions:,}"
        alt = text.HOW_ALT[self.role].format(layer=self.layer, leader=self.leader, positions=positions)
        return (
            f'<svg class="step-layer of-{self.role}" viewBox="-2 -2 {_WIDTH + 4} {height + 4}" role="img" '
            f'aria-label="{escape(alt)}">{"".join(self.parts)}</svg>'
        )

    def _input_and_projections(self) -> None:
        shape, flops = self.step.shape, self.cost.flops
        self._box("tensor", 0, _INPUT, _WIDTH, text.HOW_DRAWING["input"].format(hidden=size(1, shape.hidden_size)))
        for letter, width, count in (
            ("Q", shape.query_size, flops.q_proj), ("K", shape.kv_size, flops.k_proj), ("V", shape.kv_size, flops.v_proj),
        ):  # fmt: skip
            if not getattr(self.kept, _PROJECTED[letter]):
                self._box(
                    "gone", self.column[letter], _MATRICES, _COLUMN, _matrix(letter), text.HOW_DRAWING["none"], ""
                )
                continue
            lines = _matrix(letter), size(shape.hidden_size, width), _flops(count)
            self._down(self._middle(letter), _INPUT + _height(1), _MATRICES)
            self._box("have", self.column[letter], _MATRICES, _COLUMN, *lines)
            self._down(self._middle(letter), _MATRICES + _height(3), _TENSORS)
            heads = shape.num_heads if letter == "Q" else shape.num_kv_heads
            name = f"{letter.lower()} {size(heads, shape.head_dim)}"
            self._box("tensor", self.column[letter], _TENSORS, _COLUMN, name)

    def _cache_and_weights(self) -> None:
        shape, words, flops = self.step.shape, text.HOW_DRAWING, self.cost.flops
        held = size(shape.num_kv_heads, shape.head_dim)
        each = units.amount(shape.kv_size * self.step.bytes_per_value, "bytes")
        for letter, name in (("K", words["k_cache"]), ("V", words["v_cache"])):
            if not getattr(self.kept, _PROJECTED[letter]):
                taken = self.role == "kv" or (self.role == "keys" and letter == "K")
                lines = (
                    (words["of_leader"].format(leader=self.leader), f"{self.tokens}×{held}")
                    if taken
                    else (words["none"], "")
                )
                self._box("weights" if taken else "gone", self.column[letter], _CACHE, _COLUMN, name, *lines)
                continue
            self._down(self._middle(letter), _TENSORS + _height(1), _CACHE)
            in_bytes = text.HOW_CELLS["of_tokens"].format(tokens=self.tokens, amount=each)
            self._box("cache", self.column[letter], _CACHE, _COLUMN, name, f"{self.tokens}×{held}", in_bytes)
        chosen = self.role == "topk" and self.positions < self.step.attended(shape.sliding_windows[self.layer])
        weights = size(shape.num_heads), str(self.positions) if chosen else self.tokens
        if self.role == "skip":
            self._box(
                "gone",
                self.pair_x,
                _SCORES,
                _PAIR,
                words["scores"].format(head_dim=shape.head_dim),
                words["scores_gone"],
            )
            self._box("gone", self.pair_x, _WEIGHTS, _PAIR, words["weights"], words["none"])
            return
        if self.follows:
            self._box(
                "gone",
                self.pair_x,
                _SCORES,
                _PAIR,
                words["scores"].format(head_dim=shape.head_dim),
                words["scores_gone"],
            )
            taken = "×".join(weights) + (words["mapped"] if self.layer in self.step.head_map else "")
            self._box("weights", self.pair_x, _WEIGHTS, _PAIR, words["weights_from"].format(leader=self.leader), taken)
        else:
            self._down(self._middle("Q"), _TENSORS + _height(1), _SCORES)
            self._down(self._middle("K"), _CACHE + _height(3), _SCORES)
            made = _flops(flops.scores + flops.softmax)
            self._box("op", self.pair_x, _SCORES, _PAIR, words["scores"].format(head_dim=shape.head_dim), made)
            self._down(self.pair_x + _PAIR / 2, _SCORES + _height(2), _WEIGHTS)
            name = words["weights_chosen"] if chosen else words["weights"]
            self._box(
                "weights" if self.role in _HANDING else "tensor", self.pair_x, _WEIGHTS, _PAIR, name, "×".join(weights)
            )
        self._down(self.pair_x + _PAIR / 2, _WEIGHTS + _height(2), _VALUES)
        self._down(self._middle("V"), _CACHE + _height(3), _VALUES)

    def _output(self) -> int:
        """Returns how high the drawing is."""
        shape, words, flops = self.step.shape, text.HOW_DRAWING, self.cost.flops
        product = words["values"].format(shape=size(shape.num_heads, shape.head_dim))
        output = _matrix("O", size(shape.query_size, shape.hidden_size))
        if self.role == "skip":
            self._box("gone", 0, _VALUES, _WIDTH, product, words["scores_gone"])
            self._box("gone", 0, _OUTPUT, _WIDTH, output, words["none"])
        else:
            self._box("op", 0, _VALUES, _WIDTH, product, _flops(flops.weighted_values))
            self._down(_WIDTH / 2, _VALUES + _height(2), _OUTPUT)
            self._box("have", 0, _OUTPUT, _WIDTH, output, _flops(flops.o_proj))
            self._down(_WIDTH / 2, _OUTPUT + _height(2), _SUM)
        self._box("tensor", 0, _SUM, _WIDTH, words["passed_on" if self.role == "skip" else "residual"])
        self._down(_WIDTH / 2, _SUM + _height(1), _MLP)
        mlp = self._mlp()
        self._box("have", 0, _MLP, _WIDTH, *mlp)
        end = _MLP + _height(4) + 16
        self._down(_WIDTH / 2, _MLP + _height(len(mlp)), end)
        self._box("tensor", 0, end, _WIDTH, words["out"])
        return end + _height(1)

    def _mlp(self) -> tuple[str, ...]:
        shape, words = self.step.shape, text.HOW_DRAWING
        experts = shape.experts if shape.experts and self.layer in shape.experts.layers else None
        name, matrices = mlp_words(self.step, experts is not None)
        if experts is None:
            parts = words["gate" if shape.gated_mlp else "plain"]
            return parts, matrices, _flops(self.cost.flops.mlp)
        router = words["router"].format(shape=size(shape.hidden_size, experts.count))
        return name, router, words["expert"].format(shape=matrices), _flops(self.cost.flops.mlp)

    def _middle(self, letter: str) -> float:
        return self.column[letter] + _COLUMN / 2

    def _box(self, kind: str, x: float, y: float, width: float, *lines: str) -> None:
        """lines: our own SVG text."""
        height = _height(len(lines))
        words = "".join(
            f'<text x="{x + width / 2:g}" y="{y + 20 + index * _LINE:g}"{_BOLD if index == 0 else ""}>{line}</text>'
            for index, line in enumerate(lines)
            if line  # a place that is kept free
        )
        self.parts.append(
            f'<g class="{kind}"><rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height}" rx="8"/>{words}</g>'
        )

    def _down(self, x: float, top: float, bottom: float) -> None:
        self.parts.append(
            f'<path class="line" d="M{x:g} {top:g} V{bottom - 7:g}"/><path class="tip" d="M{x:g} {bottom:g} l-5 -8 h10 z"/>'
        )


_BOLD = ' class="name"'
_PROJECTED = {"Q": "queries", "K": "keys", "V": "values"}
"""Letter → the field of `core.cost.mechanisms.Kept` that says whether the layer has it."""
_HANDING = ("dense", "leader", "topk")
"""Roles whose attention weights are marked: of pairs, where these or the places that they choose are handed over."""


def _height(lines: int) -> int:
    return 10 + _LINE * lines


_ALL = _MLP + _height(4) + 16 + _height(1)
"""How high a drawing can be."""


def _matrix(letter: str, shape: str = "") -> str:
    """Its name, with the letter below the line, and its shape behind it."""
    return f'W<tspan dy="4">{letter}</tspan>' + (f'<tspan dy="-4"> {shape}</tspan>' if shape else "")


def _flops(count: int) -> str:
    return units.amount(count, "FLOPs")
