"""Generate, then align? Schedules of the same cost, from the same small language model, over several seeds.

    python benchmarks/small_language_model.py data/mocap/packed.safetensors runs/experiments/small_lm
    python benchmarks/stage_order.py [--seeds 0 1 2] [--schedules I+II+III II+III III]
    python benchmarks/stage_order.py --table

Every schedule is a row of commands: `motiongpt3 train stageN` with configs/experiments/stages/stageN.yaml, then
`motiongpt3 evaluate`. What is there already is not run again. The seconds in the table are those of the training
steps, on one thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path

CONFIGS = Path("configs/experiments/stages")
SCHEDULES = {
    "I": [(1, 1000)],
    "I+II": [(1, 1000), (2, 400)],
    "I+II+III": [(1, 1000), (2, 400), (3, 150)],
    "II+III": [(2, 900), (3, 150)],
    "III": [(3, 620)],
}
"""Stages and their steps. What begins alike is run once; the last three cost about the same."""
FRESH = ["--config", str(CONFIGS / "stage1.yaml"), "--run.steps", "1", "--run.learning_rate", "0"]
"""A motion stream as it was initialised: one step that changes nothing."""
REPEATS = 3
COLUMNS = {
    "t2m R@1": ("t2m", "r_precision_1", 100),
    "t2m R@3": ("t2m", "r_precision_3", 100),
    "t2m FID": ("t2m", "fid", 1),
    "m2t R@3": ("m2t", "r_precision_3", 100),
    "BLEU-4": ("m2t", "bleu_4", 1),
    "CIDEr": ("m2t", "cider", 1),
    "action": ("m2t", "action", 100),
}
"""Column of the table: report, measure, scale."""


def run(*arguments: str) -> None:
    """A command of motiongpt3 on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    subprocess.run([sys.executable, "-m", "motiongpt3.cli.main", *arguments], check=True, env=environment)


def place(out: Path, seed: int, stages: list[tuple[int, int]]) -> Path:
    """The folder of a schedule, or of its beginning."""
    return out / f"{'_'.join(f'{stage}x{steps}' for stage, steps in stages) or 'fresh'}_{seed}"


def train(out: Path, seed: int, stages: list[tuple[int, int]], data: str, vae: str) -> Path:
    """The model after these stages, trained if it is not there yet, and the folder it lies in."""
    folder = place(out, seed, stages)
    if not stages:
        command = ["train", "stage1", *FRESH, "--vae", vae]
    else:
        stage, steps = stages[-1]
        before = train(out, seed, stages[:-1], data, vae) if stage > 1 else None
        command = ["train", f"stage{stage}", "--config", str(CONFIGS / f"stage{stage}.yaml"), "--run.steps", str(steps)]
        command += ["--vae", vae] if stage == 1 else []
        command += ["--latents", str(out / f"latents{'_1' if stage == 1 else ''}_{seed}.safetensors")]
        command += ["--start", str(before / "model")] if before else []
        command += ["--run.validate_every", str(steps)]
    if not (folder / "model" / "config.json").is_file():
        run(*command, "--run.seed", str(seed), "--run.out", str(folder), "--data", json.dumps([data]))
    return folder


def evaluate(folder: Path, reads: bool, data: str) -> None:
    """Text to motion, and captions of a model that reads, of the test split."""
    common = ["--model", str(folder / "model"), "--data", data]
    if not (folder / "t2m.json").is_file():
        run("evaluate", "t2m", *common, "--repeats", str(REPEATS), "-o", str(folder / "t2m.json"))
    if reads and not (folder / "m2t.json").is_file():
        run("evaluate", "m2t", *common, "--repeats", "1", "-o", str(folder / "m2t.json"))


def seconds_of_steps(out: Path, seeds: list[int]) -> dict[int, float]:
    """Seconds of a step of each stage, without validation and preparation: those of the run least disturbed."""
    found: dict[int, float] = {}
    begun = [stages[:end] for stages in SCHEDULES.values() for end in range(1, len(stages) + 1)]
    for stages, seed in product(begun, seeds):
        log = place(out, seed, stages) / "metrics" / "metrics.csv"
        if not log.is_file():
            continue
        with log.open() as file:
            timed = [line for line in csv.DictReader(file) if line.get("seconds")]
        if timed:
            each = float(timed[-1]["seconds"]) / (int(timed[-1]["step"]) + 1)
            found[stages[-1][0]] = min(found.get(stages[-1][0], each), each)
    return found


def table(out: Path, seeds: list[int], schedules: list[str]) -> None:
    """Means over seeds and, behind ±, their deviation."""
    cost = seconds_of_steps(out, seeds)
    print(f"| schedule | stages: steps | seconds | seeds | {' | '.join(COLUMNS)} |\n{'|---' * (len(COLUMNS) + 4)}|")
    for name in schedules:
        stages = SCHEDULES[name]
        done = [seed for seed in seeds if (place(out, seed, stages) / "t2m.json").is_file()]
        if not done:
            continue
        seconds = sum(cost[stage] * steps for stage, steps in stages)
        cells = [name, ", ".join(f"{'I' * stage}: {steps}" for stage, steps in stages), f"{seconds:.0f}"]
        cells.append(str(len(done)))
        for report, measure, scale in COLUMNS.values():
            files = [place(out, seed, stages) / f"{report}.json" for seed in done]
            found = [json.loads(file.read_text())["metrics"][measure] for file in files if file.is_file()]
            cells.append(spread([scale * metric["generated"]["mean"] for metric in found]))
        print(f"| {' | '.join(cells)} |")


def spread(values: list[float]) -> str:
    """Mean and deviation; nothing of nothing."""
    if not values:
        return ""
    digits = 3 if max(values) < 10 else 1
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=list(SCHEDULES))
    parser.add_argument("--out", type=Path, default=Path("runs/experiments/stages"))
    parser.add_argument("--data", default="data/mocap/packed.safetensors")
    parser.add_argument("--vae", default="runs/mini/vae_decoder/vae")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    for seed in () if options.table else options.seeds:
        for name in options.schedules:
            folder = train(options.out, seed, SCHEDULES[name], options.data, options.vae)
            evaluate(folder, SCHEDULES[name][-1][0] > 1, options.data)
    table(options.out, options.seeds, options.schedules)


if __name__ == "__main__":
    main()
