"""`motiongpt3 evaluate convergence`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motiongpt3.commands.options import Parser, output_files
from motiongpt3.commands.tables import table
from motiongpt3.files import atomic_path


def convergence(argv: Sequence[str]) -> int:
    """Which of two kinds of runs learns faster."""
    parser = Parser(
        "evaluate convergence",
        "From the logged curves of runs of `motiongpt3 train experiment`: the steps that the slow ones take to their "
        "best smoothed value, divided by those the fast ones take to the same value. Runs are paired in the order "
        "given, so give both kinds in the same order of seeds.",
        "  motiongpt3 evaluate convergence --slow runs/single_0 runs/single_1 --fast runs/dual_0 runs/dual_1\n",
    )
    parser.add_argument("--slow", nargs="+", required=True, metavar="RUN", help="folders of the runs that set the goal")
    parser.add_argument("--fast", nargs="+", required=True, metavar="RUN", help="folders of those compared with them")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers of every pair to this file")
    parser.add_argument("--plot", metavar="FILE", help="also draw the curves, as a PNG")
    options = parser.parse_args(argv)

    from motiongpt3.evaluation import convergence as measure

    file = Path(options.json) if options.json else None
    picture = Path(options.plot) if options.plot else None
    with output_files([path for path in (file, picture) if path]):
        result = measure.convergence(options.slow, options.fast)
        if file:
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps(result, indent=2) + "\n")
        if picture:
            with atomic_path(picture) as temporary:
                groups = {_name(runs): runs for runs in (options.slow, options.fast)}
                measure.plot(groups if len(groups) == 2 else {"slow": options.slow, "fast": options.fast}, temporary)
    lines = []
    for entry in result.values():
        for goal in entry["goals"]:
            ratios = (_words(goal[name], goal["at_least"]) for name in ("ratio", "ratio_seconds"))
            lines.append([entry["title"], f"{goal['share']:.0%}", *ratios])
    print("steps (seconds) of the slow runs divided by those of the fast ones, until a share of the slow run's gain")
    print(table(["measure", "share", "steps", "seconds"], lines))
    return 0


def _name(runs: Sequence[str]) -> str:
    """Of runs/single_0, runs/single_1 and so on: single."""
    return Path(runs[0]).name.rstrip("0123456789").rstrip("_-") or runs[0]


def _words(spread: dict[str, Any], at_least: bool) -> str:
    """A ratio with its range over the pairs that get there; `at_least` where some were there at their first mean."""
    if not spread["count"]:
        return "never"
    bound = "at least " if at_least else ""
    return f"{bound}{spread['mean']:.2f} ({spread['least']:.2f} to {spread['largest']:.2f}, {spread['count']} pairs)"
