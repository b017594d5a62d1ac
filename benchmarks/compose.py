"""Whether the prompts of a composition are recognised in their spans: python benchmarks/compose.py [--prompts 30]

Draws plain prompts of the prompt check at random, composes one motion of them, and asks the rules of the check about
each span: the whole of it, and without the transition at its beginning. The same prompts drawn alone are the
comparison. Prints seconds and memory too.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from motiongpt3 import Motion, MotionGPT3
from motiongpt3.evaluation.checks.body_measures import Measures
from motiongpt3.evaluation.checks.kinematic_rules import RULES
from motiongpt3.evaluation.checks.prompt_check import PromptCase, load_prompts


def memory() -> float:
    """Most memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seen(cases: list[PromptCase], motions: list[Motion]) -> float:
    """Percentage of motions that show their prompt's action."""
    return 100 * float(np.mean([RULES[c.action](Measures(m)) for c, m in zip(cases, motions, strict=True)]))


def main() -> None:
    """Print one line per seed and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--transition", type=float, default=0.4, help="seconds left out at the beginning of a span")
    options = parser.parse_args()
    model, cases = MotionGPT3.from_pretrained(), load_prompts("plain")
    skip = round(options.transition * model.config.fps)
    rows = []
    for seed in range(options.seeds):
        chosen = [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))[: options.prompts]]
        alone = [model.generate(case.text, seconds=case.seconds, seed=seed) for case in chosen]
        before, start = memory(), time.perf_counter()
        whole = model.compose([(case.text, case.seconds) for case in chosen], seed=seed)
        taken = time.perf_counter() - start
        ends = np.cumsum([round(case.seconds * model.config.fps) for case in chosen]).tolist()
        spans = [whole[first:last] for first, last in zip([0, *ends], ends, strict=False)]
        rows.append((seen(chosen, spans), seen(chosen, [span[skip:] for span in spans]), seen(chosen, alone)))
        print(
            f"seed {seed}: {whole.seconds:.0f} s of motion in {taken:.1f} s, {memory() - before:.0f} MB more; "
            f"recognised {rows[-1][0]:.0f} %, without the first {options.transition:g} s {rows[-1][1]:.0f} %, "
            f"alone {rows[-1][2]:.0f} %",
            flush=True,
        )
    mean = np.mean(rows, axis=0)
    print(f"mean of {len(rows)} seeds: {mean[0]:.0f} %, {mean[1]:.0f} %, alone {mean[2]:.0f} %")


if __name__ == "__main__":
    main()
