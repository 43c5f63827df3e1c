"""Write what the demo models learn from as one text: prose, and between it exercises, to tune them on."""

from argparse import Namespace

from core.demo.corpus import check_corpus, training_text
from core.records.files import write_file


def run(args: Namespace) -> int:
    """Write the text; 0."""
    check_corpus(args.corpus)
    text, counted = training_text(args.corpus, args.characters, args.skill_share, args.seed)
    write_file(args.out, text.encode())
    print(f"Wrote {args.out}: {counted}.")
    return 0
