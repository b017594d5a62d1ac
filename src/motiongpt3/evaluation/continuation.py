"""Prediction and in-between under a protocol: how far is the made part from what was recorded?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motiongpt3.errors import NotFiniteError
from motiongpt3.evaluation.measured import QUALITY, Measured, measured
from motiongpt3.evaluation.metrics import PredictionErrors, span
from motiongpt3.evaluation.protocols import Item, Protocol, TaskName
from motiongpt3.evaluation.session import Outcome, Session, fids, quality_means
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import seam_jerk
from motiongpt3.motion.skeleton import HUMANML3D, Float32

FPS = 20.0
ERRORS = ("ade", "fde", "ade_best", "fde_best", "apd", "apd_norm")


@dataclass(frozen=True)
class Continuing:
    """A clip (T, 22, 3) of which the frames before `start` and from `stop` on are given, and a seed per prediction."""

    joints: Float32
    start: int
    stop: int
    seeds: tuple[int, ...]
    guidance: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Continued:
    """What came of it.

    Attributes:
        made: (S, n, 22, 3) the made frames of each prediction; NaN throughout one that is not finite.
        measures: of the made frames alone, as motions.
        seams: (S,) jerk at the seams, m/s³.
        real: of the recorded frames in their place.
        real_seam: the recording's jerk at the same frames.
    """

    made: Float32
    measures: Measured
    seams: NDArray[np.float64]
    real: Measured
    real_seam: float


def completion_work(session: Session) -> int:
    """Motions that a repeat makes."""
    return len(session.items) * session.protocol.predictions


def completion_repeat(session: Session, number: int) -> Outcome:
    """Make the part that is not given of each clip, several times, and compare it with the recording."""
    protocol = session.protocol
    jobs = []
    for place, item in enumerate(session.items):
        joints = session.pack.clip_joints(item.row)[: item.frames].copy()
        first = session.draws(number) + 1000 * place
        seeds = tuple(first + 100 * k for k in range(protocol.predictions))  # windows of one clip take seeds in turn
        jobs.append(
            Continuing(joints, *made_span(protocol, item, session.task), seeds, session.guidance, session.steps)
        )
    errors = PredictionErrors(protocol.predictions, session.names)
    done: list[Continued] = []
    columns: dict[str, list[float]] = {"ade": [], "fde": [], "seam_jerk": [], "real seam_jerk": []}
    by_joint = []
    for place, (job, one) in enumerate(zip(jobs, session.workers.map(make, jobs), strict=True)):
        session.tick(protocol.predictions)
        done.append(one)
        target = torch.from_numpy(job.joints)
        whole = target.repeat(protocol.predictions, 1, 1, 1)
        whole[:, job.start : job.stop] = torch.from_numpy(one.made)
        errors.update(whole[None], target[None], span(job.start, job.stop, len(target)), [place])
        distance = np.linalg.norm(one.made - job.joints[None, job.start : job.stop], axis=-1)  # (S, n, 22)
        by_joint.append(distance.mean(axis=(0, 1)))
        columns["ade"].append(float(distance.mean()))
        columns["fde"].append(float(distance[:, -1].mean()))
        columns["seam_jerk"].append(float(one.seams.mean()))
        columns["real seam_jerk"].append(one.real_seam)
    found = errors.compute()
    made = Measured.joined([one.measures for one in done])
    real = Measured.joined([one.real for one in done])
    first_made = made.vectors[:: protocol.predictions]
    per_joint = np.array(by_joint)
    per_joint = per_joint[np.isfinite(per_joint).all(axis=1)]
    return Outcome(
        {
            **{name: float(found[name]) for name in ERRORS if name in found},
            **fids(session, number, first_made, real.vectors),
            "seam_jerk": _mean(columns["seam_jerk"]),
            **quality_means(made.quality),
        },
        {
            **fids(session, number, real.vectors, real.vectors, floor=True),
            "seam_jerk": _mean(columns["real seam_jerk"]),
            **quality_means(real.quality),
        },
        list(errors.excluded),
        columns=columns | {name: made.quality[:: protocol.predictions, k].tolist() for k, name in enumerate(QUALITY)},
        joints=dict(zip(HUMANML3D.names, per_joint.mean(axis=0).tolist(), strict=True)) if len(per_joint) else {},
    )


def made_span(protocol: Protocol, item: Item, task: TaskName) -> tuple[int, int]:
    """The first frame that is made and the first one after it."""
    share = protocol.given_share if task == "predict" else protocol.sides_share
    given = max(protocol.least_given, round(share * item.frames))
    return given, item.frames if task == "predict" else item.frames - given


def make(tools: Any, job: Continuing) -> Continued:
    """Make the part of a clip that is not given, once for each seed."""
    model, recording = tools.model, Motion(job.joints, FPS)
    before, after = recording[: job.start], recording[job.stop :] if job.stop < len(recording) else None
    seconds = (job.stop - job.start) / FPS
    seams = [job.start] if after is None else [job.start, job.stop]
    made = np.full((len(job.seeds), job.stop - job.start, *job.joints.shape[1:]), np.nan, np.float32)
    jerks = np.full(len(job.seeds), np.nan)
    asked = {"guidance": job.guidance, "steps": job.steps}
    for number, seed in enumerate(job.seeds):
        try:
            if after is None:
                motion = model.predict(before, seconds, seed=seed, **asked)
            else:
                motion = model.inbetween(before, after, seconds, seed=seed, **asked)
        except NotFiniteError:
            continue
        made[number] = motion.joints[job.start : job.stop]
        jerks[number] = seam_jerk(motion, seams)
    return Continued(
        made,
        measured(tools, list(made)),
        jerks,
        measured(tools, [job.joints[job.start : job.stop]]),
        seam_jerk(recording, seams),
    )


def _mean(values: Sequence[float]) -> float:
    usable = [value for value in values if np.isfinite(value)]
    return float(np.mean(usable)) if usable else float("nan")
