"""A pool of examples made from the recorded clips, as a second packed file beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from motiongpt3.data.augment import (
    Captioned,
    Example,
    make_extended_pool,
    make_joined_pool,
    make_layered_pool,
    make_relaxed_pool,
)
from motiongpt3.data.dataset import LICENSE_JOINT, Clip, PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import joints_to_features

MAKERS: dict[str, Callable[[list[Captioned], int, int], list[Example]]] = {
    "joined": make_joined_pool,
    "layered": make_layered_pool,
    "extended": make_extended_pool,
    "relaxed": make_relaxed_pool,
}


@dataclass(frozen=True)
class PoolSizes:
    """Examples of each kind."""

    joined: int = 3000
    """Two or three actions one after the other."""
    layered: int = 2000
    """Walks and runs with a wave or raised hands."""
    extended: int = 3000
    """Short clips made four seconds long."""
    relaxed: int = 600
    """Squats, seats and lunges with hanging arms."""


def make_pool(
    source: str | Path,
    out: str | Path,
    sizes: PoolSizes | None = None,
    seed: int = 0,
    workers: int | None = None,
    licenses: list[str] | None = None,
) -> PackedClips:
    """Write a pool made from the train clips of a packed file.

    Args:
        source: the packed file, or its folder.
        out: the file to write.
        sizes: how many examples of each kind.
        seed: decides all of them, whatever the number of workers.
        workers: processes; None takes one per core.
        licenses: use only clips under these licences; None uses all. Every example carries the licences of all clips
            that were used, so training can filter by them.
    """
    pack = PackedClips.open(source)
    rows = [i for i in pack.split("train") if pack.clips[i].allowed(licenses)]
    if not rows:
        raise MotionGPT3Error(f"{source} has no train clips{' under these licences' if licenses else ''}")
    license = LICENSE_JOINT.join(sorted({name for i in rows for name in pack.clips[i].license.split(LICENSE_JOINT)}))
    chunk = 100
    jobs = [
        (str(pack.path), rows, kind, min(chunk, count - first), seed * 1_000_003 + first * 31 + number)
        for number, (kind, count) in enumerate(asdict(sizes or PoolSizes()).items())
        for first in range(0, count, chunk)
    ]
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        done = tqdm(pool.map(_make, jobs), total=len(jobs), desc="pool", disable=None)
        return PackedClips.write(out, _records(done, jobs, license), pack.fps, pack.skeleton, (pack.mean, pack.std))


Record = tuple[Clip, NDArray[np.float32], NDArray[np.float32]]
Job = tuple[str, list[int], str, int, int]


Made = list[tuple[NDArray[np.float32], NDArray[np.float32], list[str]]]


def _records(done: Iterable[Made], jobs: list[Job], license: str) -> Iterator[Record]:
    number = 0
    for examples, job in zip(done, jobs, strict=True):
        for features, joints, captions in examples:
            clip = Clip(
                id=f"pool_{job[2]}_{number:06d}",
                split="train",
                start=0,
                frames=len(joints),
                captions=tuple(captions),
                crop_safe=(False,) * len(captions),
                source=f"made from recorded clips ({job[2]})",
                license=license,
                label=job[2],
            )
            number += 1
            yield clip, features, joints


def _make(job: Job) -> Made:
    path, rows, kind, count, seed = job
    torch.set_num_threads(1)
    pack = PackedClips.open(path)
    clips = [
        Captioned(clip.id, clip.short, clip.captions, clip.crop_safe, np.array(pack.clip_joints(i)))
        for i, clip in ((i, pack.clips[i]) for i in rows)
    ]
    return [
        (joints_to_features(torch.from_numpy(joints)).numpy(), joints, captions)
        for joints, captions in MAKERS[kind](clips, count, seed)
    ]
