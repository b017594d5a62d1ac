"""All metrics on one made-up population, dealt to some processes.

Run as `python sharded.py RANK WORLD STORE`, it joins WORLD processes through the file STORE and prints the results.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from motiongpt3.evaluation.metrics import (
    FID,
    CaptionScores,
    Diversity,
    MultiModality,
    PredictionErrors,
    ReconstructionErrors,
    RPrecision,
    SampleMetric,
    span,
)

POPULATION = 20
BAD = 17
"""The sample whose generated motion has a NaN."""
WORDS = ["a", "person", "walks", "runs", "jumps", "waves", "left", "right", "hand", "forward", "then", "the"]


def caption(number: int) -> str:
    return " ".join(WORDS[(number * number + 3 * word * number + word) % len(WORDS)] for word in range(4 + number % 5))


def population() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(3)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=random)

    text = draw(POPULATION, 4)
    motion = text + 0.7 * draw(POPULATION, 4)
    many = draw(POPULATION, 5, 4)
    joints = draw(POPULATION, 12, 6, 3)
    made = joints[:, None] + 0.1 * draw(POPULATION, 3, 12, 6, 3)
    for one in (motion, many, made):
        one[BAD].view(-1)[0] = torch.nan
    return {"text": text, "motion": motion, "many": many, "joints": joints, "made": made}


def cases() -> dict[str, tuple[SampleMetric, Callable[[SampleMetric, Tensor], None]]]:
    """Name -> metric and how to update it with the samples of an index (B,)."""
    data = population()
    lengths = torch.arange(POPULATION) % 8 + 5

    def captions(metric: SampleMetric, at: Tensor) -> None:
        numbers = at.tolist()
        metric.update([caption(i) for i in numbers], [[caption(i + 1), caption(i + 2)] for i in numbers], at)

    def fid(metric: SampleMetric, at: Tensor) -> None:
        metric.update(data["motion"][at], at)
        metric.update(data["text"][at], at, real=True)

    return {
        "r_precision": (RPrecision(group=4), lambda m, at: m.update(data["text"][at], data["motion"][at], at)),
        "r_precision_labels": (
            RPrecision(group=4),
            lambda m, at: m.update(data["text"][at], data["motion"][at], at, label=at % 7),
        ),
        "fid": (FID(), fid),
        "diversity": (Diversity(pairs=10), lambda m, at: m.update(data["motion"][at], at)),
        "multimodality": (MultiModality(pairs=3), lambda m, at: m.update(data["many"][at], at)),
        "reconstruction": (
            ReconstructionErrors(),
            lambda m, at: m.update(data["made"][at, 0], data["joints"][at], at, lengths[at]),
        ),
        "prediction": (
            PredictionErrors(3),
            lambda m, at: m.update(data["made"][at], data["joints"][at], span(0, lengths[at], 12), at),
        ),
        "captions": (CaptionScores(), captions),
    }


def share(name: str, rank: int, world: int) -> Tensor:
    """The indices of a process: uneven shares with a repeat; where there are two, the second gets no `diversity`."""
    if world == 1 or (name == "diversity" and rank == 0):
        return torch.arange(POPULATION)
    if name == "diversity":
        return torch.arange(0)
    return torch.arange(13, -1, -1) if rank == 0 else torch.tensor([*range(14, POPULATION), 0])


def filled(rank: int, world: int) -> dict[str, SampleMetric]:
    """The metrics with a process's share of the samples, in batches of 6."""
    metrics = {}
    for name, (metric, update) in cases().items():
        for batch in share(name, rank, world).split(6):
            if len(batch):
                update(metric, batch)
        metrics[name] = metric
    return metrics


def results(metrics: dict[str, SampleMetric]) -> dict[str, dict[str, float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: {key: float(v) for key, v in metric.compute().items()} for name, metric in metrics.items()}


def main() -> None:
    rank, world, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    metrics = filled(rank, world)
    scores = results(metrics)
    print(json.dumps({"scores": scores, "excluded": {name: one.excluded for name, one in metrics.items()}}))  # noqa: T201
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
