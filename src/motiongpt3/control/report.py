"""What constraints cost: how far off each was before and after the exact fit, and what the motion gave for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from motiongpt3.control.constraints import Constraint
from motiongpt3.control.exact import errors
from motiongpt3.motion.contacts import find_contacts, frames_of
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import jitter, skate_ratio
from motiongpt3.motion.skeleton import HUMANML3D


@dataclass(frozen=True)
class ConstraintError:
    """How far off the joints of one constraint are."""

    name: str
    """What it is, and which in the list."""
    kind: str
    """root, keyframe, effector or contact."""
    frames: tuple[int, ...]
    """When, from 0."""
    drawn_mean: float
    """Metres before the exact fit, mean over joints and frames."""
    drawn_max: float
    """Metres before the exact fit, the worst joint and frame."""
    fitted_max: float
    """Metres after it, the worst joint and frame."""
    drawn_heading: float
    """Radians of the worst heading before the exact fit."""
    fitted_heading: float
    """Radians after it."""


@dataclass(frozen=True)
class Walking:
    """What one sees first when a motion was forced."""

    skate_ratio: float
    """Share of frames in which a toe on the floor is faster than 0.5 m/s."""
    jitter: float
    """Mean jerk, m/s³."""
    contact_frames: int
    """Frames in which a foot stands, both feet together."""


@dataclass(frozen=True)
class ConstraintReport:
    """What became of constraints, and the price."""

    constraints: tuple[ConstraintError, ...]
    """In the order in which they were given, without those that were left out."""
    moved_mean: float
    """Metres by which the exact fit moved a joint, mean over frames and joints."""
    moved_max: float
    """Metres by which it moved the joint that it moved farthest."""
    moved_most: str
    """That joint."""
    free: Walking
    """The motion of the same seed without constraints."""
    held: Walking
    """The motion with them."""
    problems: tuple[str, ...]
    """What cannot be met, a line each; empty unless the best effort was asked for."""

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{'constraint':44} {'drawn':>9} {'fitted':>9}"]
        for one in self.constraints:
            lines.append(f"{one.name:44} {100 * one.drawn_mean:6.2f} cm {1000 * one.fitted_max:6.3f} mm")
        lines.append(
            f"moved by the fit: {100 * self.moved_mean:.2f} cm on average, {100 * self.moved_max:.1f} cm at most "
            f"({self.moved_most})"
        )
        lines.append(
            f"skating frames {100 * self.free.skate_ratio:.0f} -> {100 * self.held.skate_ratio:.0f} %, jitter "
            f"{self.free.jitter:.0f} -> {self.held.jitter:.0f} m/s³, frames on a foot {self.free.contact_frames} -> "
            f"{self.held.contact_frames}"
        )
        return "\n".join([*lines, *(f"not met: {line}" for line in self.problems)])


class ConstrainedMotion(Motion):
    """A motion that constraints were held in, with their report. What is changed afterwards is a plain motion.

    Attributes:
        constraint_report: what they cost.
    """

    constraint_report: ConstraintReport

    def __init__(self, motion: Motion, constraint_report: ConstraintReport) -> None:
        super().__init__(motion.joints, motion.fps, motion.caption, motion.name, motion.skeleton)
        object.__setattr__(self, "constraint_report", constraint_report)

    def replace(self, **changes: object) -> Motion:
        """A plain motion with some fields changed: the report is not about it."""
        return Motion(self.joints, self.fps, self.caption, self.name, self.skeleton).replace(**changes)


def report(
    free: Motion,
    drawn: Motion,
    fitted: Motion,
    constraints: Sequence[Constraint],
    settled: Sequence[Constraint],
    problems: Sequence[str] = (),
) -> ConstraintReport:
    """Compare a motion without constraints, one before and one after the exact fit.

    Args:
        free: of the same seed, without constraints.
        drawn: before the exact fit.
        fitted: after it.
        constraints: resolved.
        settled: as `exact.fit` gives them.
        problems: what cannot be met.
    """
    found = []
    for one, done in zip(constraints, settled, strict=True):
        (metres, radians), (off, turned) = errors(one, drawn), errors(done, fitted)
        found.append(
            ConstraintError(
                one.label,
                one.kind,
                tuple(one.frames.tolist()),
                float(metres.mean()),
                float(metres.max()),
                float(off.max()),
                float(radians.max()),
                float(turned.max()),
            )
        )
    moved = np.linalg.norm(fitted.joints.astype(np.float64) - drawn.joints, axis=-1)
    most = HUMANML3D.names[int(moved.max(axis=0).argmax())]
    return ConstraintReport(
        tuple(found),
        float(moved.mean()),
        float(moved.max()),
        most,
        walking(free),
        walking(fitted),
        tuple(problems),
    )


def walking(motion: Motion) -> Walking:
    """The measures of one motion."""
    return Walking(skate_ratio(motion), jitter(motion), frames_of(find_contacts(motion)))
