"""Chat templates are programs of strangers. jinja2's sandbox keeps them from files; here they are kept from all of the time.

Every loop, call, filter, operator and piece of output is paid from one budget for each time that a template is rendered,
by what it is about to make, before it makes it.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextvars import ContextVar
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

BUDGET = 100_000_000
"""Letters and steps of one rendering: half a second of loops, or a hundred copies of a text of a million letters."""
_TURN, _ENTRY, _CALL = 50, 60, 600  # what a turn of a loop, an entry that is counted, and a call cost
_NUMBER = 100_000  # that a filter or method is told
_BITS = 10_000  # of a number that is computed
_WIDE = re.compile(r"\d{5,}|\*|\{[^}]*\{")
"""Widths in formats, beyond measure or computed."""
_MULTIPLYING = frozenset({
    "indent", "wordwrap", "center", "batch", "slice", "tojson", "format", "ljust", "rjust", "zfill", "expandtabs", "pprint",
})  # fmt: skip

_CHEAP = frozenset({
    "length", "count", "first", "last", "default", "d", "list", "map", "select", "reject", "selectattr", "rejectattr",
    "items", "attr", "get", "keys", "values", "copy", "index", "a call",
})  # fmt: skip
"""They look at what they are given, or at its entries one by one, and at nothing inside."""

_left: ContextVar[list[int] | None] = ContextVar("left", default=None)


def _spend(cost: int) -> None:
    left = _left.get()
    if left is None:  # outside of a rendering, as where constants are folded
        left = [BUDGET]
        _left.set(left)
    left[0] -= cost
    if left[0] < 0:
        raise TemplateError("it takes longer, or writes more, than any chat template needs to")


def _weight(value: Any, letters: bool = True) -> int:
    """Entries in a value and, where they count, letters; paid while they are counted, so that nesting over and over ends."""
    if isinstance(value, (str, bytes)):
        return len(value) if letters else 1
    if isinstance(value, int):
        return 1 + value.bit_length() // 3
    if not isinstance(value, (list, tuple, dict, set, frozenset)):
        return 1
    _spend(_ENTRY * (len(value) + 1))
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    return 1 + sum(_weight(one, letters) for one in inside)


def _pay_for(name: str, arguments: Iterable[Any], named: Mapping[str, Any]) -> None:
    """Pay for a filter or a method before it is called."""
    given = [*arguments, *named.values()]
    numbers = [abs(one) for one in given if isinstance(one, int)]
    if max(numbers, default=0) > _NUMBER:
        raise TemplateError(f"it tells {name} a number beyond {_NUMBER:,}")
    weights = [_items(one) for one in given] if name in _CHEAP else list(map(_weight, given))
    cost = sum(weights)
    if name in _MULTIPLYING:
        cost *= 1 + sum(numbers) + max((len(one) for one in given[1:] if isinstance(one, str)), default=0)
    elif name == "replace" and len(given) >= 3:
        cost += (weights[0] + 1) * weights[2]
    elif name == "join" and given:
        cost += max(map(_items, given)) * min(weights)
    if name in ("format", "strftime_now") and given and isinstance(given[0], str):
        _check_format(given[0])
    _spend(_CALL + cost)


def _items(value: Any) -> int:
    return len(value) if isinstance(value, Sized) else 1


def _check_format(text: str) -> None:
    if _WIDE.search(text):
        raise TemplateError("it formats to a width beyond measure")


def _counted(items: Any) -> Any:
    """What a loop goes through, each turn paid for."""
    if isinstance(items, Sized):
        _spend(_TURN * (len(items) + 1))
        return items
    return _one_by_one(items)


def _one_by_one(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _spend(_TURN)
        yield item


def _weighed(value: Any) -> Any:
    """What is written, or turned into text."""
    _spend(_weight(value))
    return value


def _built(value: Any) -> Any:
    """A list, pair or object that a template makes."""
    _spend(_weight(value, letters=False))
    return value


def _joined(parts: Iterable[Any]) -> str:
    """`a ~ b`."""
    parts = list(parts)
    _spend(sum(map(_weight, parts)))
    return "".join(map(str, parts))


class _Filters(dict[str, Callable[..., Any]]):
    """Filters, each of which is paid for by what it is given."""

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        skipped = 1 if getattr(function, "jinja_pass_arg", None) else 0  # the context, which jinja2 adds

        @functools.wraps(function)
        def paid(*arguments: Any, **named: Any) -> Any:
            _pay_for(name, arguments[skipped:], named)
            return function(*arguments, **named)

        super().__setitem__(name, paid)


class _Paid(NodeTransformer):
    """Puts what is paid by itself in front of loops, lists and texts put together."""

    def _wrapped(self, node: Any, by: str) -> nodes.Filter:
        return nodes.Filter(node, by, [], [], None, None, lineno=node.lineno)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = self._wrapped(node.iter, "paid_counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._wrapped(nodes.List(node.nodes, lineno=node.lineno), "paid_joined")

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return self._wrapped(node, "paid_built")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return self._wrapped(node, "paid_built")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return self._wrapped(node, "paid_built") if node.ctx == "load" else node


class _PaidTemplate(Template):
    """A template each of whose renderings has a budget."""

    def render(self, *arguments: Any, **named: Any) -> str:
        token = _left.set([BUDGET])
        try:
            return super().render(*arguments, **named)
        except (RecursionError, MemoryError, OverflowError) as error:
            raise TemplateError("it takes longer, or writes more, than any chat template needs to") from error
        finally:
            _left.reset(token)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox of jinja2 in which templates end. Raises TemplateError where one does not."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    template_class = _PaidTemplate

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        filters = _Filters()
        for name, function in self.filters.items():
            filters[name] = function
        for name, function in {"paid_counted": _counted, "paid_joined": _joined, "paid_built": _built}.items():
            dict.__setitem__(filters, name, function)
        self.filters = filters
        self.finalize = _weighed
        self.globals.pop("lipsum", None)

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Pieces of output as one text."""
        found = []
        for piece in pieces:
            _spend(len(piece) + 1)
            found.append(piece)
        return "".join(found)

    def _generate(self, source: nodes.Template, *arguments: Any, **named: Any) -> str:
        return super()._generate(_Paid().visit(source), *arguments, **named)

    def call(self, context: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
        """Calls of functions, macros and methods."""
        owner = getattr(function, "__self__", None)
        of = [owner] if isinstance(owner, (str, list, dict)) else []
        name = getattr(function, "__name__", "a call")
        _pay_for(name if of or name == "strftime_now" else "a call", [*of, *arguments], named)
        return super().call(context, function, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Operators whose result can be much larger than what they are given."""
        whole = isinstance(left, int) and isinstance(right, int)
        if operator == "**" and whole and left.bit_length() * abs(right) > _BITS:
            raise TemplateError("it computes a number beyond measure")
        if operator == "*" and whole and left.bit_length() + right.bit_length() > _BITS:
            raise TemplateError("it computes a number beyond measure")
        if operator == "*" and not whole:
            of, times = (right, left) if isinstance(left, int) else (left, right)
            letters = isinstance(of, str)
            _spend(_weight(of, letters) * max(1, times if isinstance(times, int) else 1))
        elif operator == "%" and isinstance(left, str):
            _check_format(left)
            _spend(_weight(left) + _weight(right) * (left.count("%") + 1))
        else:
            _spend(_items(left) + _items(right))
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format`, of widths within measure."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(value.__self__)
        return wrapped
