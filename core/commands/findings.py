"""Say in plain words what the records of a model show: what is free, what a tenth of the cache costs, what foretells it."""

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.evaluation.findings import Findings


def run(args: Namespace) -> int:
    """Print the sentences, and every task with its verdicts; 0."""
    from tqdm import tqdm

    from core.evaluation.findings import Findings, load_findings, sentences, with_findings
    from core.evaluation.losses import load_index

    document = args.write.read_text(encoding="utf-8") if args.write else ""
    with tqdm(desc="reading answers", unit="record", leave=False, delay=1) as bar:
        for step in load_findings(
            args.results, args.model, load_index(args.results), keep=args.keep or bool(args.write)
        ):
            if isinstance(step, Findings):
                found = step
            else:
                bar.total = step[1]
                bar.update()
    for problem in found.problems:
        print(f"Left out: {problem}", file=sys.stderr)
    print("\n".join(sentences(found)), _table(found), sep="\n\n")
    if args.write:
        args.write.write_text(with_findings(document, found), encoding="utf-8")
    return 0


def _table(found: "Findings") -> str:
    """All tasks with their resolution, how many plans are worse at p < 0.01, or why the task cannot tell."""
    import pandas as pd

    rows = [
        {
            "task": task.name, "dense": f"{task.score.value:.3f}", "plans": len(task.verdicts),
            "worst plan": task.worst.record.plan, "drop/error": f"{task.resolution:.1f}",
            "yes": sum(one.worse == "yes" for one in task.verdicts), "no": sum(one.worse == "no" for one in task.verdicts),
            "p<0.01": sum((one.p_value or 1) < 0.01 and one.loss.drop > 0 for one in task.verdicts),
            "cannot tell plans apart": task.reason,
        }
        for task in found.tasks
    ]  # fmt: skip
    return pd.DataFrame(rows).to_string(index=False)
