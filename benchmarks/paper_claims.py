"""The final scores of runs of `motiongpt3 train experiment`, as a table: one line for each network and setting.

    python benchmarks/paper_claims.py RUN … [--split val|test]

R@3 is text to motion in groups of 32 with one clip per label at most, a mean over ten ways of drawing the groups. A
score is the mean over a run's draws of motions; the table has the mean over runs of other seeds and, behind ±, their
deviation.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

MEASURES = {"r_precision_1": "R@1", "r_precision_3": "R@3", "mm_dist": "MM-Dist", "fid": "FID"}
HEADINGS = ("network", "trained in layers, M", "learning rate", "steps", "runs", *MEASURES.values())


def score(draws: Any, name: str) -> float:
    """One run's score: the mean over its draws."""
    return statistics.mean(draw[name] for draw in (draws if isinstance(draws, list) else [draws]))


def line(about: list[str], runs: list[Any]) -> str:
    """A row of the table; of several runs the mean and the deviation."""
    cells = []
    for name in MEASURES:
        values = [score(draws, name) for draws in runs]
        deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.3f}{deviation}")
    return f"| {' | '.join([*about, *cells])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--split", choices=("val", "test"), default="test")
    options = parser.parse_args()
    groups: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    ceilings: dict[str, Any] = {}
    for run in options.runs:
        final = json.loads((run / "final.json").read_text())
        key = tuple(final[name] for name in ("streams", "tokens", "layers", "learning_rate", "steps"))
        groups[key].append(final)
        scores = final[options.split]
        ceilings["recorded clips"] = scores["recorded"]
        ceilings[f"recorded clips through {final['tokens']}"] = scores["reconstructed"]
    print(f"{options.split}, {scores['clips']} clips\n")
    print(f"| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|")
    for name, found in ceilings.items():
        print(line([name, "", "", "", ""], [found]))
    for (streams, tokens, layers, rate, steps), finals in groups.items():
        trained = f"{finals[0]['parameters']['layers'] / 1e6:.1f}"
        for setting in ("guided", "unguided", "sampled"):
            if setting in finals[0][options.split]:
                name = f"{streams}, {tokens}, {layers} layers, {setting}"
                about = [name, trained, f"{rate:g}", str(steps), str(len(finals))]
                print(line(about, [final[options.split][setting] for final in finals]))


if __name__ == "__main__":
    main()
