"""The arguments of `python -m core evaluate`."""

from argparse import ArgumentParser
from pathlib import Path

from core.cost.kv_caches import KV_CACHES, SHORT_NAMES
from core.evaluation.options import WEIGHTS, Options
from core.evaluation.suites import SUITES
from core.places import RESULTS
from core.plan import EXECUTIONS


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core evaluate`."""
    parser.add_argument(
        "--model", action="append", help="bundled name, hub id or folder; repeatable (default: the bundled demo model)"
    )
    parser.add_argument(
        "--plan",
        action="append",
        default=[],
        help="sharing plan, e.g. 17-22,5-6 or 2-4-6 (layers one by one), or dense; repeatable",
    )
    parser.add_argument("--tasks", default="", help="tasks and groups, separated by commas, e.g. demo")
    parser.add_argument(
        "--benchmark", type=Path, action="append", default=[], metavar="FILE",
        help='JSON lines of your own: {"prompt", "choices", "answer"}, {"prompt", "answer"} or {"text"}; repeatable',
    )  # fmt: skip
    parser.add_argument(
        "--task-data", type=Path, metavar="DIR", help="local documents of lm-eval's tasks: DIR/arc_easy.jsonl, ..."
    )
    parser.add_argument("--suite", choices=SUITES, help=f"task list: {'; '.join(map(_describe_suite, SUITES))}")
    parser.add_argument("--num-fewshot", type=int, help="examples before each question (default: as the task says)")
    parser.add_argument("--limit", type=_number, help="first documents of each task only: a number, or a share below 1")
    parser.add_argument(
        "--apply-chat-template", action="store_true", help="ask an instruct model in turns of a conversation"
    )
    parser.add_argument("--system", metavar="TEXT", help="what the conversation begins with (default: the template's)")
    parser.add_argument(
        "--fewshot-as-multiturn", action="store_true", help="examples are turns of their own in the conversation"
    )
    parser.add_argument(
        "--batch-size", default=Options.batch_size, help="number, or auto: what a GPU holds (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=Options.seed, help="(default: %(default)s)")
    parser.add_argument("--device", help="e.g. cpu or cuda (default: the GPU when there is one)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: as the model's files)")
    parser.add_argument(
        "--head-map",
        metavar="FILE",
        help="follower → leader head of each head: JSON, a file with it, or a stored record",
    )
    parser.add_argument("--execution", choices=EXECUTIONS, default=Options.execution)
    parser.add_argument(
        "--kv-cache", choices=[*KV_CACHES, *SHORT_NAMES], default=Options.kv_cache,
        help="hold keys and values in 2, 4 or 8 bits, and read answers through that cache (quantized: 4 bits)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", choices=WEIGHTS, default=Options.weights, help="hold the weights of linear layers as integers"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where records are kept")
    parser.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS",
        help="dispatch over a Ray cluster (default: this machine's CPUs)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="measure again what is stored")


def _describe_suite(name: str) -> str:
    return f"{name} = {','.join(SUITES[name])}"


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("+-").isdecimal() else float(text)
