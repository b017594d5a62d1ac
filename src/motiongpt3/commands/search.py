"""`motiongpt3 search`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse.typing import PositiveInt
from tqdm import tqdm

from motiongpt3.commands.options import Parser, check_prompts
from motiongpt3.commands.tables import table


def search(argv: Sequence[str]) -> int:
    """Motion files that show what a sentence says."""
    parser = Parser(
        "search",
        "Rank the motion files of a folder by how well they show what a sentence says.",
        '  motiongpt3 search "someone waves" --in clips\n'
        '  motiongpt3 search "a person walks backward" --in clips --top 3 --json\n',
    )
    parser.add_argument("text", metavar="TEXT", help="what should happen in the motion")
    parser.add_argument("--in", dest="folder", required=True, metavar="FOLDER", help="folder; those within too")
    parser.add_argument("--top", type=PositiveInt, default=10, metavar="N", help="how many to show")
    parser.add_argument(
        "--evaluator", default="mocap", metavar="NAME|FOLDER", help="mocap, or what `train evaluator` wrote"
    )
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    options = parser.parse_args(argv)
    check_prompts([options.text])

    from motiongpt3.evaluation.evaluator import load_evaluator
    from motiongpt3.evaluation.search import motion_files
    from motiongpt3.evaluation.search import search as find

    files = motion_files(options.folder)
    with tqdm(files, desc="reading", unit="file", disable=None, leave=False) as bar:

        def skip(file: Path, reason: str) -> None:
            tqdm.write(f"motiongpt3: skipped {file}: {' '.join(reason.split())}", file=sys.stderr)

        found = find(load_evaluator(options.evaluator), options.text, bar, skip)[: options.top]
    if options.json:
        facts = [{"file": str(one.file), "seconds": one.seconds, "similarity": one.similarity} for one in found]
        print(json.dumps(facts, indent=2))
    else:
        rows = [[str(one.file), f"{one.seconds:.1f}", f"{one.similarity:.3f}"] for one in found]
        print(table(["file", "seconds", "similarity"], rows))
    return 0
