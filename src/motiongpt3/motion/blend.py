"""Joining and layering motions: one clip after another, or the upper body of one over the legs of another.

All arrays are (T, 22, 3) joint positions in metres, y up, in the order of `HUMANML3D`; yaw 0 faces +z, and a positive
yaw turns +z towards +x (the person's left). Nothing here changes the length of a bone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.kinematics import arc_vectors, turned_by
from motiongpt3.motion.leg_ik import place_ankle
from motiongpt3.motion.poses import (
    assemble,
    bone_lengths,
    bone_vectors,
    checked_joints,
    end_velocity,
    ground_height,
    heading,
    rotate,
    smooth_heading,
    unit,
    yaw_of,
)
from motiongpt3.motion.signals import smootherstep
from motiongpt3.motion.skeleton import LEGS, Array, Leg

Part = Literal["upper", "arms", "left arm", "right arm"]

_PARTS: dict[Part, list[int]] = {
    "upper": [3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21],
    "arms": [16, 17, 18, 19, 20, 21],
    "left arm": [16, 18, 20],
    "right arm": [17, 19, 21],
}
_STAND = [0, 1, 2, 4, 5, 7, 8, 10, 11]  # pelvis and legs
_FLAT = [0, 2]  # x and z

# All by eye; frames at 20 fps, metres, metres per frame.
PLANTED_SPEED, PLANTED_HEIGHT = 0.03, 0.07
"""0.6 m/s, and metres above the ground: a toe that is slower and lower is planted."""
_MIN_SEAM, _MAX_SEAM = 8, 16  # frames of a seam without a change, and with one of
_FULL_CHANGE, _FULL_TURN = 0.06, 1.5  # 1.2 m/s (a walk that stops), or of so many radians in the pose
_STEP, _QUICK_STEP, _QUICK_CHANGE = 12, 10, 0.03  # frames of a step, and of one where speed changes by 0.6 m/s or more
_STANDING_SPEED = 0.015  # 0.3 m/s: a change of speed that is smaller leaves somebody who stands standing
_MAX_MISS = 0.25  # metres that a placement by a planted foot may miss an even change of speed
_MAX_FOOT_SLIDE = 0.04  # metres that a foot may be off before it steps instead of sliding


def join(first: Array, second: Array) -> Array:
    """`second` after `first`: (T1 + T2, 22, 3), float32. The frames of `first` stay as they are.

    `second` is turned to the last heading of `first` and put where a foot that is on the ground in both stays where
    it is, or else where the change of speed is even. Then the differences in pose and velocity at the seam decay to
    nothing within 8 to 16 frames, by how much the speed changes ("inertialisation", Bollo, GDC 2018), and a foot that
    has to change its place is lifted and steps there.

    Raises:
        MotionGPT3Error: an array is not (T, 22, 3) or empty.
    """
    first, second = checked_joints(first), checked_joints(second)
    return np.concatenate([first, _Seam.between(first, second).blended()]).astype(np.float32)


def best_cut(first: Array, second: Array, first_slack: int = 0, second_slack: int = 0) -> tuple[int, int]:
    """Where to cut two motions so that they join best: `join(first[:end], second[start:])`.

    Args:
        first: (T, 22, 3) joints.
        second: (T, 22, 3) joints.
        first_slack: frames that may be dropped at the end of `first`.
        second_slack: frames that may be dropped at the start of `second`.

    Returns:
        (end, start); the pose, its velocity and the planted feet fit best there.
    """
    first, second = checked_joints(first), checked_joints(second)
    ends = np.arange(max(2, len(first) - first_slack), len(first) + 1)
    starts = np.arange(min(second_slack, max(len(second) - 2, 0)) + 1)
    if len(ends) * len(starts) <= 1:
        return len(first), 0
    a, b = _signature(first, ends - 1, backward=True), _signature(second, starts, backward=False)
    cost = np.linalg.norm(a[:, None] - b[None], axis=-1) / np.sqrt(22)
    order = np.argsort(cost, axis=None)[:: max(1, cost.size // 24)][:24]
    best, best_cost = (len(first), 0), np.inf
    for index in order:
        row, column = np.unravel_index(index, cost.shape)
        end, start = int(ends[row]), int(starts[column])
        seam = _Seam.between(first[:end], second[start : start + _MAX_SEAM + 1])
        total = float(cost[row, column]) + 2 * seam.misfit
        if total < best_cost:
            best, best_cost = (end, start), total
    return best


def layer(lower: Array, upper: Array, part: Part = "upper", start: int | None = None, ease: int = 6) -> Array:
    """The legs and the path of `lower` with the upper body of `upper`, (T, 22, 3) float32.

    The bones of `part` keep the directions that they have in `upper` relative to the person's facing and are turned
    to the facing of `lower`, so with "upper" every joint from spine1 up keeps its place relative to the pelvis.

    Args:
        lower: (T1, 22, 3) joints that give root, legs and whatever is not in `part`.
        upper: (T2, 22, 3) joints that give `part`.
        part: the whole upper body, or only arms (the torso then moves as in `lower`).
        start: None: both are cut to the shorter. Else the whole of `lower` is kept and `part` comes from `upper` from
            this frame on as long as `upper` lasts, eased in and out over `ease` frames.
        ease: frames; only with `start`.
    """
    lower, upper = checked_joints(lower), checked_joints(upper)
    weight: Array
    if part not in _PARTS:
        raise MotionGPT3Error(f"part must be one of {', '.join(_PARTS)}, not {part!r}")
    if start is None:
        frames = min(len(lower), len(upper))
        lower, upper, start = lower[:frames], upper[:frames], 0
        weight = np.ones(frames)
    else:
        if not 0 <= start < len(lower):
            raise MotionGPT3Error(f"start must be a frame of the lower motion, 0 to {len(lower) - 1}, not {start}")
        frames = min(len(upper), len(lower) - start)
        upper = upper[:frames]
        weight = smootherstep(np.arange(1, frames + 1) / (ease + 1))
        if start + frames < len(lower):
            weight = weight * smootherstep(np.arange(frames, 0, -1) / (ease + 1))
    span = slice(start, start + frames)
    turn = smooth_heading(lower)[span] - smooth_heading(upper)
    mixed, other, moved = bone_vectors(lower), rotate(bone_vectors(upper), turn[:, None]), _PARTS[part]
    mixed[span, moved] = _slerp(mixed[span, moved], other[:, moved], weight[:, None])
    out = assemble(lower[:, 0], mixed, bone_lengths(lower).mean(axis=0))
    out[:, _STAND] = lower[:, _STAND]
    return out.astype(np.float32)


def hold_pose(pose: Array, frames: int, sway: float = 0.004, phase: float = 0.0) -> Array:
    """(frames, 22, 3): a pose (22, 3) held, swaying rigidly about its feet by `sway` radians in 3 to 5 s periods."""
    time = np.arange(frames)[:, None] / 20
    start = np.array([np.sin(phase), np.sin(2 * phase)])
    angle = sway * (np.sin(2 * np.pi * time / np.array([4.1, 3.3]) + [phase, 2 * phase]) - start)
    feet = pose[[7, 8, 10, 11]]
    pivot = np.array([feet[:, 0].mean(), feet[:, 1].min(), feet[:, 2].mean()])
    x, y, z = (pose - pivot).T[:, None]
    (cos, other_cos), (sin, other_sin) = np.cos(angle).T[..., None], np.sin(angle).T[..., None]
    x, y = x * cos + y * sin, y * cos - x * sin
    y, z = y * other_cos - z * other_sin, z * other_cos + y * other_sin
    return (np.stack([x, y, z], axis=-1) + pivot).astype(np.float32)


@dataclass
class _Seam:
    """Where and how a second motion, turned and placed, takes over from a first."""

    first: Array  # the last frames
    second: Array  # placed: heading, position and ground
    frames: int  # of the blend
    ground: float  # metres
    planted: tuple[bool, bool]  # feet on the ground on both sides of the seam
    misfit: float  # metres by which the placement misses an even change of speed

    @staticmethod
    def between(first: Array, second: Array) -> _Seam:
        ground = ground_height(first, at_end=True)
        shift = np.array([0.0, ground - ground_height(second, at_end=False), 0.0])
        first = first[-3:].astype(np.float64)
        second = rotate(second, yaw_of(first[-1]) - yaw_of(second[0])) + shift
        velocity, step = end_velocity(first, at_end=True), end_velocity(second, at_end=False)
        due = first[-1] + velocity
        change = (velocity[0] - step[0])[_FLAT]
        speed = float(np.linalg.norm(change))
        usual = _MIN_SEAM + round((_MAX_SEAM - _MIN_SEAM) * min(1.0, speed / _FULL_CHANGE))
        lengths = np.unique(np.minimum(np.arange(_MIN_SEAM, usual + 1), len(second)))
        even = (due - second[0])[0, _FLAT] + change * lengths[:, None] / 2
        on = [_planted(first[-1], velocity, ground, leg) and _planted(second[0], step, ground, leg) for leg in LEGS]
        moves = [(first[-1] - second[0])[ankle, _FLAT] for _, _, ankle, _ in LEGS]
        if all(on) and speed < _STANDING_SPEED and np.linalg.norm(moves[0] - moves[1]) < 2 * _MAX_FOOT_SLIDE:
            moves = [(moves[0] + moves[1]) / 2]
        else:
            moves = [move for move, planted in zip(moves, on, strict=True) if planted]
        best = (_MAX_MISS, int(lengths[-1]), even[-1])
        for move in moves:
            misses = np.linalg.norm(move - even, axis=-1)
            at = int(misses.argmin())
            best = min(best, (float(misses[at]), int(lengths[at]), move), key=lambda choice: choice[0])
        misfit, count, move = best
        second[..., _FLAT] += move
        if max(_ankles_away(due, second[0])) > _MAX_FOOT_SLIDE:
            count = min(max(count, _STEP if speed < _QUICK_CHANGE else _QUICK_STEP), len(second))
        return _Seam(first, second, count, ground, (on[0], on[1]), misfit)

    def blended(self) -> Array:
        """The second motion with the seam's differences decaying over the first `frames` of its frames.

        The bones above the pelvis take longer where they have far to go.
        """
        first, second, count = self.first, self.second, self.frames
        lengths = bone_lengths(second[:1])[0]
        before, after = unit(bone_vectors(first)), unit(bone_vectors(second))
        upper = _PARTS["upper"]
        far = float(np.arccos(np.clip((before[-1] * after[0])[upper].sum(-1), -1, 1)).max())
        usual = round(_MIN_SEAM + (_MAX_SEAM - _MIN_SEAM) * min(1.0, far / _FULL_TURN))
        longer = min(len(second), max(count, usual))
        frames = np.full(len(lengths), count)
        frames[upper] = longer
        root = second[:longer, 0].copy()
        root[:count] += _decay(first[:, 0], second[:, 0], count)
        steady = [leg[3] for leg, planted in zip(LEGS, self.planted, strict=True) if planted]
        out = assemble(root, _turn_decay(before, after[:longer], frames, steady), lengths)
        for leg, ankle in zip(LEGS, self._ankles(), strict=True):
            place_ankle(out[:count], leg, ankle, self.ground)
        out[count:, _STAND] = second[count:longer, _STAND]
        return np.concatenate([out, second[longer:]])

    def _ankles(self) -> list[Array]:
        """Where the ankles go during the blend, (frames, 3) each: planted ones stay or step, others swing through.

        Where both are planted and neither is where it should be, the one that is nearer steps after the other. A foot
        that goes far near the ground is lifted: by 15 % of its way, at most 10 cm, highest in the middle.
        """
        first, second, count = self.first, self.second, self.frames
        s = np.arange(count) / count
        away = _ankles_away(first[-1] + end_velocity(first, at_end=True), second[0])
        both = all(self.planted) and min(away) > _MAX_FOOT_SLIDE
        later = int(np.argmin(away))
        paths = []
        for side, (_, _, ankle, _) in enumerate(LEGS):
            own, at = second[:count, ankle], first[-1, ankle]
            if self.planted[side] and both:
                path = at + (own - at) * smootherstep((s - (0.4 if side == later else 0.0)) / 0.6)[:, None]
            elif self.planted[side]:
                path = own + (at - own[0]) * (1 - smootherstep(s))[:, None]
            else:
                path = own + _decay(first[:, ankle], second[:, ankle], count)
            steps = np.linalg.norm(np.diff(path[:, _FLAT], axis=0, prepend=at[None, _FLAT]), axis=-1)
            low = np.clip(1 - (path[:, 1] - self.ground - 0.08) / 0.1, 0, 1)
            travel = float((steps * low).sum())
            if travel > _MAX_FOOT_SLIDE and away[side] > _MAX_FOOT_SLIDE * (1 if self.planted[side] else 2):
                done = np.cumsum(steps * low) / travel
                path[:, 1] += min(0.15 * travel, 0.1) * 16 * (done * (1 - done)) ** 2 * low
            paths.append(path)
        return paths


def _ankles_away(due: Array, pose: Array) -> list[float]:
    """Metres along the ground from where the left and the right ankle are due to where they are in a pose."""
    return [float(np.linalg.norm((pose - due)[ankle, _FLAT])) for _, _, ankle, _ in LEGS]


def _decay(before: Array, after: Array, frames: int) -> Array:
    """(frames, ...) what to add to `after` so that it starts as `before` would have gone on; zero at the end."""
    gone, comes = end_velocity(before, at_end=True), end_velocity(after, at_end=False)
    return _fade(before[-1] + gone - after[0], gone - comes, frames, frames)


def _turn_decay(before: Array, after: Array, frames: NDArray[np.int64], steady: list[int]) -> Array:
    """(T, B, 3) directions `after`, turned so that they start as `before` would have gone on.

    Bone b is as in `after` from frame `frames[b]` on. Those in `steady` (feet on the ground) lose their speed at once.
    """
    gone, comes = end_velocity(before, at_end=True), end_velocity(after, at_end=False)
    spin = np.cross(before[-1], gone) - np.cross(after[0], comes)
    spin[steady] = 0
    turns = _fade(arc_vectors(after[0], before[-1] + gone), spin, frames[:, None], len(after))
    return turned_by(after, turns)


def _fade(offset: Array, change: Array, frames: int | NDArray[np.int64], total: int) -> Array:
    """(total, ...) a quintic in time that starts at `offset` with velocity `change` (per frame).

    Its value, velocity and acceleration are zero after `frames` frames, and it stays zero.
    """
    s = np.clip(np.arange(total).reshape(-1, *[1] * offset.ndim) / frames, 0, 1)
    value = 1 - s**3 * (10 - 15 * s + 6 * s**2)
    slope = s - s**3 * (6 - 8 * s + 3 * s**2)
    return value * offset + slope * frames * change


def _slerp(a: Array, b: Array, weight: Array) -> Array:
    """Directions from `a` (weight 0) to `b` (weight 1) along the great circle; the lengths are those of neither."""
    a, b = unit(a), unit(b)
    angle = np.arccos(np.clip((a * b).sum(-1), -0.9999, 0.9999))
    w = np.broadcast_to(weight, angle.shape)
    mixed = (np.sin((1 - w) * angle)[..., None] * a + np.sin(w * angle)[..., None] * b) / np.sin(angle)[..., None]
    return np.where((w >= 1)[..., None], b, np.where((w <= 0)[..., None], a, mixed))


def _planted(pose: Array, velocity: Array, ground: float, leg: Leg) -> bool:
    """Whether the toes of a leg rest in a pose (22, 3) that goes on with a velocity (22, 3)."""
    toe = leg[3]
    low = pose[toe, 1] - ground < PLANTED_HEIGHT
    return bool(low and np.linalg.norm(velocity[toe, _FLAT]) < PLANTED_SPEED)


def _signature(joints: Array, frames: NDArray[np.int64], *, backward: bool) -> Array:
    """(F, 132) pose in the facing frame (backward: that of the next frame) and three frames of velocity, in metres."""
    other = np.clip(frames - 1, 0, None) if backward else np.clip(frames + 1, None, len(joints) - 1)
    yaw = heading(joints[frames])[:, None]
    step = joints[frames] - joints[other] if backward else joints[other] - joints[frames]
    shown = joints[frames] + step if backward else joints[frames]
    pose = rotate(shown - shown[:, :1] * [1, 0, 1], -yaw)
    return np.concatenate([pose, 3 * rotate(step, -yaw)], axis=1).reshape(len(frames), -1)
