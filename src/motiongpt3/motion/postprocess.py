"""A motion made ready for use: feet that stand, a cycle, in place, smoother, another frame rate; what that changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion import quality
from motiongpt3.motion.contacts import find_contacts, slides
from motiongpt3.motion.foot_lock import lock_feet
from motiongpt3.motion.kinematics import set_bone_lengths
from motiongpt3.motion.loop import closed, in_sight_of, kinks, tiled
from motiongpt3.motion.loop import loop as make_loop
from motiongpt3.motion.motion import Motion, check_fps
from motiongpt3.motion.poses import bone_lengths, rotate, wrapped, yaw_of
from motiongpt3.motion.resample import resampled
from motiongpt3.motion.signals import averaged, gaussian
from motiongpt3.motion.skeleton import HUMANML3D

MAX_SMOOTH_SECONDS = 5
"""Seconds over which joints are averaged at most: a round number, above which hardly a movement is left."""
_PATH_SECONDS = 0.5  # deviation, over which the way is averaged that `in_place` takes away: about a step; by eye
_LOW = 0.1  # metres by which a foot is higher than the other when it counts e times less for the way; by eye


def postprocess(
    motion: Motion,
    *,
    fix_feet: bool = False,
    in_place: bool = False,
    loop: bool = False,
    fps: float | None = None,
    smooth: float | None = None,
) -> Motion:
    """A motion made ready for use; without options it is the motion itself.

    What is asked for is done in this order, whatever the order of the arguments: smooth, fps, loop, fix_feet, in_place.
    Loops close and feet stand on the frames of the new rate.

    Args:
        motion: of HumanML3D's skeleton, the floor at height 0.
        fix_feet: hold standing feet in their places, see `motion.foot_lock.lock_feet`. In a loop they stay
            there over the seam, too.
        in_place: take the way away, see `without_path`.
        loop: cut out a seamless cycle, see `motion.loop.loop`.
        fps: frames per second of the result, see `motion.resample.resampled`.
        smooth: seconds over which joints are averaged, see `smoothed`; 0.2 takes away a tremor.

    Raises:
        MotionGPT3Error: another skeleton, a number that is none, or a clip too short for a loop.
    """
    if motion.skeleton != HUMANML3D:
        raise MotionGPT3Error("only motions with the 22 joints of HumanML3D can be finished; this one has other joints")
    check_options(fps, smooth)
    if smooth is not None:
        motion = smoothed(motion, smooth)
    if fps is not None:
        motion = resampled(motion, fps)
    if loop:
        motion = make_loop(motion)
    if fix_feet:
        motion = _lock_feet_in_loop(motion) if loop else lock_feet(motion)
    return without_path(motion, cycle=loop) if in_place else motion


def check_options(fps: float | None, smooth: float | None) -> None:
    """Refuse what `postprocess` refuses without seeing the motion.

    Raises:
        MotionGPT3Error: fps is not a number from MIN_FPS to 1000, or smooth none in (0, MAX_SMOOTH_SECONDS].
    """
    if fps is not None:
        check_fps(fps)
    if smooth is not None and not 0 < smooth <= MAX_SMOOTH_SECONDS:
        raise MotionGPT3Error(
            f"joints are smoothed over a number of seconds in (0, {MAX_SMOOTH_SECONDS}], not {smooth}"
        )


def smoothed(motion: Motion, seconds: float) -> Motion:
    """Joints averaged over time with a Gaussian four standard deviations of which are `seconds`.

    Bones keep their lengths, which are averaged alike where they change; the first and the last pose stay.

    Raises:
        MotionGPT3Error: `seconds` is not a number in (0, MAX_SMOOTH_SECONDS].
    """
    check_options(None, seconds)
    joints, window = motion.joints.astype(np.float64), gaussian(seconds / 4 * motion.fps)
    placed, lengths = (torch.from_numpy(averaged(values, window)) for values in (joints, bone_lengths(joints)))
    return motion.replace(joints=set_bone_lengths(placed, lengths, follow=True).numpy())


def without_path(motion: Motion, cycle: bool = False) -> Motion:
    """The motion on the spot: without the way of the feet, averaged over time with the lower one counting more.

    A person who squats stays as they are, and one who walks keeps the swaying of the pelvis. Heights stay, and so do
    headings; the first frame has the pelvis above the origin, and so has the last of a `cycle`. What a cycle turns,
    but for whole rounds, is turned back evenly, so that its last pose is its first.
    """
    joints = motion.joints.astype(np.float64)
    feet = joints[:, list(motion.skeleton.contacts[1::2])]
    high = feet[..., 1] - feet[..., 1].min(axis=1, keepdims=True)
    weight = np.exp(-high / _LOW)[..., None]
    way = averaged((weight * feet).sum(1) / weight.sum(1), gaussian(_PATH_SECONDS * motion.fps))
    way += joints[0, 0] - way[0]
    if cycle:
        way += np.linspace(0, 1, len(way))[:, None] * (joints[-1, 0] - way[-1])
    still = joints - way[:, None] * [1, 0, 1]
    if cycle:
        origin = still[0, 0] * [1, 0, 1]
        turn = wrapped(yaw_of(still[-1]) - yaw_of(still[0]))
        still = rotate(still - origin, -turn * np.linspace(0, 1, len(still))[:, None]) + origin
    return motion.replace(joints=still)


def _lock_feet_in_loop(motion: Motion) -> Motion:
    """Feet held over the seam of a cycle: fixed in the middle one of three rounds, which is then closed again."""
    steps = len(motion) - 1
    rounds = lock_feet(motion.replace(joints=tiled(motion.joints.astype(np.float64), 3)))
    joints = closed(rounds.joints.astype(np.float64), steps, 2 * steps, motion.fps)
    return motion.replace(joints=joints - (joints[0, 0] - motion.joints[0, 0]) * [1, 0, 1])


@dataclass(frozen=True)
class Report(quality.Quality):
    """What `report` says about one motion: its quality, and whether feet stand and a loop closes."""

    contact_slide: Annotated[float, "cm"]
    """How far toes get from where they stood down, mean over contacts."""
    contact_slide_max: Annotated[float, "cm"]
    """The same for the worst contact."""
    travel: Annotated[float, "m"]
    """From the first to the last pelvis along the floor."""
    loop_pose: Annotated[float, "cm"]
    """How far the joint that differs most is in the last pose from where it is in the first."""
    loop_speed: Annotated[float, "m/s"]
    """The largest change of a joint's velocity when the motion begins again."""
    loop_kink: Annotated[float, "m/s"]
    """How far that change lies from those on the frames beside it."""


UNITS = quality.units(Report)
"""Units of what `report` gives."""
Changes = dict[str, dict[str, float]]
"""By measure its values `before` and `after`."""


def changes(before: Sequence[Motion], after: Sequence[Motion]) -> Changes:
    """The mean of each measure of `report` over some motions, and over what became of them."""
    old, new = ([report(motion) for motion in motions] for motions in (before, after))
    means = {name: [float(np.mean([found[name] for found in side])) for side in (old, new)] for name in UNITS}
    return {name: {"before": first, "after": second} for name, (first, second) in means.items()}


def report(motion: Motion) -> dict[str, float]:
    """The measures of one motion by name: the fields of `Report`."""
    joints = motion.joints.astype(np.float64)
    found = slides(motion, find_contacts(motion)) * 100
    pose, step = np.zeros((22, 3)), np.zeros((22, 3))
    if len(joints) > 1:
        first, last = (in_sight_of(joints[at], joints[at] - joints[at, 0] * [1, 0, 1]) for at in (0, -1))
        begins, ends = (in_sight_of(joints[at], joints[at + 1] - joints[at]) for at in (0, -2))
        pose, step = last - first, (ends - begins) * motion.fps
    kink = kinks(tiled(joints, 2)[len(joints) - 3 : len(joints) + 2]) * motion.fps if len(joints) > 2 else np.zeros(0)
    return Report(
        **quality.measure(motion).as_dict(),
        contact_slide=float(found.mean()) if len(found) else 0.0,
        contact_slide_max=float(found.max(initial=0)),
        travel=float(np.linalg.norm((joints[-1, 0] - joints[0, 0])[[0, 2]])),
        loop_pose=100 * float(np.linalg.norm(pose, axis=-1).max()),
        loop_speed=float(np.linalg.norm(step, axis=-1).max()),
        loop_kink=float(kink.max(initial=0)),
    ).as_dict()
