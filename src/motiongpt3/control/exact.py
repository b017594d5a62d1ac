"""The exact fit: the smoothest change of a motion that reaches every constraint at once.

A motion changes by channels: the pelvis moves, and everything that hangs from a joint turns about it. Bones keep their
lengths whatever the channels are. What a channel adds over time is as smooth as a draw from a Gaussian process with the
Matern 5/2 kernel k, and as small as can be: with rows J of the constraints' derivatives, residuals r, times t and the
channels' variances W, one step of Newton's method adds

    d(t) = W J' k(t, times) (k(times, times) * J W J' + noise)^-1 r

(kernel interpolation; Rasmussen and Williams 2006, ch. 2). Constraints have no noise. Feet that stand have a little:
they stay where they were unless a constraint moves them. Poses of all joints are met first and in one go, bone by bone;
after that the kernel is conditioned on them, so that nothing moves there any more.

All arrays are (T, 22, 3) joints in metres, y up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from motiongpt3.control.bend import smooth_root
from motiongpt3.control.constraints import SAME_HEADING, Constraint
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.contacts import find_contacts
from motiongpt3.motion.kinematics import arc_vectors, turned_by
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import assemble, bone_lengths, bone_vectors, forward, heading, rotate, wrapped
from motiongpt3.motion.skeleton import HUMANML3D, LEGS, Array, Float64

TOLERANCE = 2e-6
"""Metres, and radians, within which a constraint is met: float32 keeps positions of some metres as well."""
MET = 1e-5
"""Metres: what is nearer counts as met."""
MAX_ROWS = 5000
"""Numbers that are held in one motion, without those of whole poses: a system of 200 MB that is solved in seconds."""
_MAX_ROUNDS = 40
_ROOT_SECONDS, _TURN_SECONDS = 0.6, 0.25
"""Time scale of the kernel for the way of the pelvis and for everything else: about a step, and about how long an arm
takes to get somewhere; by eye."""
_ROOT_STEP, _HEIGHT_STEP = 0.08, 0.03  # metres: how far the pelvis goes along, rather than limbs; by eye
_STEPS = {
    "pelvis": 0.06,
    "spine1": 0.06,
    "spine2": 0.06,
    "spine3": 0.06,
    "neck": 0.15,
    "l_collar": 0.1,
    "r_collar": 0.1,
}
"""Radians by which a joint turns as readily as a limb turns by `_LIMB_STEP`: trunks are stiff; by eye."""
_LIMB_STEP, _SIBLING_STEP = 0.3, 0.01  # radians: of other joints; of one bone of those that leave a joint together
_FOOT_NOISE = 2e-3  # metres within which a standing foot stays where it was; by eye
_LOOSE_FOOT = 0.25  # metres that a standing foot may be off and still be held; farther, it has to take a step; by eye
_MAX_PUSH, _MAX_TURN = 0.25, 0.5  # metres and radians of one round: beyond, derivatives say nothing
_STRAIGHT = 0.985  # share of its length at which a limb is straight; by eye
_LIMBS = ((1, 4, 7), (2, 5, 8), (16, 18, 20), (17, 19, 21))  # hip or shoulder, knee or elbow, ankle or wrist
_JITTERS = (1e-10, 1e-1)  # shares of the largest diagonal that are added to it: from the least to the most damping


class Hinges(NamedTuple):
    """What turns: (H,) pivot joints, (H, 22) which joints hang from each, (H,) how readily, in radians."""

    pivots: Array
    moved: Array
    steps: Float64


def hinges() -> Hinges:
    """One for each joint that carries others, and one for each bone of several that leave a joint together."""
    parents = HUMANML3D.parents
    below = np.eye(len(parents), dtype=bool)
    for joint in range(len(parents) - 1, 0, -1):
        below[parents[joint]] |= below[joint]
    pivots, moved, steps = [], [], []
    for joint, name in enumerate(HUMANML3D.names):
        children = [child for child, parent in enumerate(parents) if parent == joint]
        if children:
            pivots.append(joint)
            moved.append(below[joint] & (np.arange(len(parents)) != joint))
            steps.append(_STEPS.get(name, _LIMB_STEP))
        for child in children if len(children) > 1 else []:
            pivots.append(joint)
            moved.append(below[child])
            steps.append(_SIBLING_STEP)
    return Hinges(np.array(pivots), np.array(moved), np.array(steps))


_HINGES = hinges()
_WIDTHS = np.concatenate([[_ROOT_STEP, _HEIGHT_STEP, _ROOT_STEP], np.repeat(_HINGES.steps, 3)])
_ALONG = np.isin(np.arange(len(_WIDTHS)), (0, 2))  # the pelvis's way along the floor


@dataclass
class Rows:
    """Numbers that are to be 0, linearised.

    Attributes:
        times: (M, T) weights of the frames that each is about.
        slopes: (M, C) by channel.
        residuals: (M,) what is missing, metres or radians.
        noise: (M,) how much may be missing, 0 for constraints.
    """

    times: Float64
    slopes: Float64
    residuals: Float64
    noise: Float64


class Fit(NamedTuple):
    """A motion that meets constraints, these with everything filled in that the motion decided, and what it misses.

    `misses` are the constraints that nothing reaches, a line each.
    """

    motion: Motion
    constraints: list[Constraint]
    misses: list[str]


def fit(motion: Motion, constraints: Sequence[Constraint], best_effort: bool = False) -> Fit:
    """The motion with all constraints met.

    Args:
        motion: of HumanML3D's skeleton, near what is asked for: see `bend`.
        constraints: resolved for it.
        best_effort: keep the nearest there is where something cannot be met.

    Raises:
        MotionGPT3Error: something cannot be met; the line says what, and by how much it misses.
    """
    settled = settle(motion, constraints)
    solver = _Solver(motion, settled)
    solver.meet_poses()
    solver.meet_rest()
    fitted = motion.replace(joints=solver.joints)
    misses = []
    for one in settled:
        metres, radians = errors(one, fitted)
        off, turned = metres.max(axis=1), np.degrees(radians)
        if off.max() > MET:
            at = one.frames[off.argmax()] / motion.fps
            misses.append(f"{one.label} cannot be met with the rest: it misses by {off.max():.3f} m at {at:g} s")
        elif radians.max() > SAME_HEADING:
            at = one.frames[turned.argmax()] / motion.fps
            misses.append(
                f"{one.label} cannot be met with the rest: it misses by {turned.max():.1f} degrees at {at:g} s"
            )
    if misses and not best_effort:
        rest = f" (and {len(misses) - 1} more)" if len(misses) > 1 else ""
        raise MotionGPT3Error(misses[0] + rest)
    return Fit(fitted, settled, misses)


def settle(motion: Motion, constraints: Sequence[Constraint]) -> list[Constraint]:
    """Constraints with what the motion decides: where poses that are not placed go, where feet stand."""
    held = {
        (joint, frame): place
        for one in constraints
        if one.placed and not one.smooth and one.kind != "contact"
        for frame, places in zip(one.frames.tolist(), one.positions, strict=True)
        for joint, place in zip(one.joints, places, strict=True)
        if not np.isnan(place).any()
    }
    return [_settled(one, motion, held) for one in constraints]


def _settled(one: Constraint, motion: Motion, held: dict[tuple[int, int], Float64]) -> Constraint:
    joints = motion.joints.astype(np.float64)
    if one.kind == "keyframe" and not one.placed:
        return replace(one, positions=put(one, joints))
    if one.kind == "contact" and np.isnan(one.positions).all():
        [toe] = one.joints
        fixed = [held[toe, frame] for frame in one.frames.tolist() if (toe, frame) in held]
        own = joints[one.frames, toe]
        low = max(float(np.quantile(joints[:, toe, 1], 0.05)), 0.0)  # the toes' height on the floor
        place = fixed[0] if fixed else np.array([own[:, 0].mean(), min(own[:, 1].mean(), low + 0.02), own[:, 2].mean()])
        return replace(one, positions=np.tile(place, (len(one.frames), 1, 1)))
    return one


def put(one: Constraint, joints: Array) -> Float64:
    """(1, J, 3) a pose that is not placed, put where the person is then: its pelvis over the same place, or, of a few
    joints without the pelvis, their middle; and facing the same way if it is whole."""
    pose, now = one.positions[0], joints[one.frames[0]]
    if one.whole:
        pose = rotate(pose, float(heading(now[None])[0] - heading(pose[None])[0]))
    at = one.joints.index(0) if 0 in one.joints else None
    mine, theirs = (pose[at], now[0]) if at is not None else (pose.mean(0), now[list(one.joints)].mean(0))
    return (pose + (theirs - mine) * [1, 0, 1])[None]


def errors(one: Constraint, motion: Motion) -> tuple[Float64, Float64]:
    """(K, J) metres by which each joint of a constraint is off in each frame, and (K,) radians of its headings."""
    joints = motion.joints.astype(np.float64)
    at = joints[one.frames][:, list(one.joints)]
    if one.smooth:
        at = at.copy()
        at[:, 0, [0, 2]] = smooth_root(joints[:, 0, [0, 2]], motion.fps)[one.frames]
    wanted = one.positions
    if np.isnan(wanted).all() and one.kind == "contact":
        wanted = np.broadcast_to(at.mean(axis=0), at.shape)
    elif not one.placed:
        wanted = put(one, joints)
    metres = np.sqrt(np.nansum((at - wanted) ** 2, axis=-1))
    radians = np.zeros(len(one.frames))
    if len(one.headings):
        radians = np.nan_to_num(np.abs(wrapped(heading(joints[one.frames]) - one.headings)))
    return metres, radians


class _Solver:
    """A motion on its way to its constraints."""

    def __init__(self, motion: Motion, constraints: Sequence[Constraint]) -> None:
        self.fps, self.joints = motion.fps, motion.joints.astype(np.float64)
        self.lengths = bone_lengths(self.joints)
        self.constraints = constraints
        self.floor = min(0.0, float(self.joints[..., 1].min()))
        away = np.abs(np.subtract.outer(np.arange(len(motion)), np.arange(len(motion)))) / motion.fps
        self.kernels = [matern(away, seconds) for seconds in (_ROOT_SECONDS, _TURN_SECONDS)]
        self.pinned = np.zeros(len(motion), dtype=bool)
        smooths = any(one.smooth for one in constraints)
        self.smoothing = smooth_root(np.eye(len(motion)), motion.fps) if smooths else np.zeros((0, 0))

    def meet_poses(self) -> None:
        """Poses of all joints: the pelvis moves and every bone turns the shortest way, fading over time."""
        poses = {int(one.frames[0]): one.positions[0] for one in self.constraints if one.whole}
        if not poses:
            return
        frames = np.array(sorted(poses))
        wanted = np.array([poses[frame] for frame in frames.tolist()])
        shares = []
        for number, kernel in enumerate(self.kernels):
            inside = kernel[np.ix_(frames, frames)] + 1e-12 * np.eye(len(frames))
            shares.append(np.linalg.solve(inside, kernel[frames]).T)
            self.kernels[number] = kernel - shares[-1] @ kernel[frames]
        move = np.einsum("tf,fc->tc", shares[1], wanted[:, 0] - self.joints[frames, 0])
        move[:, [0, 2]] = shares[0] @ (wanted[:, 0] - self.joints[frames, 0])[:, [0, 2]]
        turns = arc_vectors(bone_vectors(self.joints[frames]), bone_vectors(wanted))
        self.lengths[frames] = bone_lengths(wanted)
        self._change(move, np.einsum("tf,fbc->tbc", shares[1], turns))
        self.pinned[frames] = True
        self.joints[frames] = wanted

    def meet_rest(self) -> None:
        """Everything else; where feet that stand and the floor are in the way, without them."""
        self._loosen()
        if not self._newton(self._standing()):
            self._newton(None)

    def _newton(self, feet: Sequence[Constraint] | None) -> bool:
        """Newton's method with as much damping as it takes (Levenberg-Marquardt); whether all constraints are met.

        Args:
            feet: that stand; None: neither they nor the floor count.
        """
        least, most = _JITTERS
        jitter, best = least, self._off(feet)
        for _ in range(_MAX_ROUNDS):
            rows = self._rows(feet)
            fixed = rows.noise == 0
            if not fixed.any() or np.abs(rows.residuals[fixed]).max() < TOLERANCE:
                return True
            before = self.joints
            self._step(rows, jitter)
            now = self._off(feet)
            if now < best:
                best, jitter = now, max(jitter / 100, least)
                continue
            self.joints = before
            jitter *= 1000
            if jitter > most:
                return False
        return False

    def _loosen(self) -> None:
        """Bend straight arms and legs around the frames in which their ends are to come nearer.

        A straight limb gets no shorter at first, however it turns, so Newton's method would move the trunk instead.
        """
        ahead = forward(heading(self.joints))
        turns = np.zeros_like(self.joints)
        for one in self.constraints:
            for number, (upper, middle, end) in enumerate(_LIMBS):
                if end not in one.joints or one.whole:
                    continue
                full = self.lengths[one.frames, middle] + self.lengths[one.frames, end]
                line = self.joints[:, end] - self.joints[:, upper]
                now = np.linalg.norm(line[one.frames], axis=-1)
                wanted = np.linalg.norm(
                    one.positions[:, one.joints.index(end)] - self.joints[one.frames, upper], axis=-1
                )
                tight = (now > _STRAIGHT * full) & (wanted < now)
                if not tight.any():
                    continue
                bend = np.arccos(np.clip(wanted / full, 0, 1))[tight]  # exact where both bones have one length
                share = (self.kernels[1][:, one.frames[tight]] * bend).max(axis=1)
                axis = np.cross(line, ahead if number < 2 else -ahead)  # knees point forward, elbows backward
                axis /= np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-8)
                turns[:, middle] = share[:, None] * axis
                turns[:, end] = -share[:, None] * axis
        self._change(np.zeros((len(turns), 3)), turns)

    def _off(self, feet: Sequence[Constraint] | None) -> float:
        """How far everything is from where it should be; feet that stand count a little."""
        rows = self._rows(feet, slopes=False)
        return float(
            np.square(rows.residuals[rows.noise == 0]).sum() + 1e-3 * np.square(rows.residuals[rows.noise > 0]).sum()
        )

    def _step(self, rows: Rows, jitter: float) -> None:
        """One step of the formula above."""
        parts, gram = [], np.zeros((len(rows.residuals), len(rows.residuals)))
        for kernel, own in zip(self.kernels, (_ALONG, ~_ALONG), strict=True):
            slopes = rows.slopes[:, own] * _WIDTHS[own]
            spread = rows.times @ kernel
            gram += (spread @ rows.times.T) * (slopes @ slopes.T)
            parts.append((spread, slopes, own))
        size = float(np.diag(gram).max())
        wanted = np.clip(rows.residuals, -_MAX_PUSH, _MAX_PUSH)
        gram[np.diag_indices(len(gram))] += rows.noise**2 + jitter * size
        weights = np.linalg.solve(gram, wanted)
        change = np.zeros((len(self.joints), len(_WIDTHS)))
        for spread, slopes, own in parts:
            change[:, own] = spread.T @ (weights[:, None] * slopes) * _WIDTHS[own]
        turns = change[:, 3:].reshape(len(change), -1, 3)
        bones = np.einsum("thc,hb->tbc", rotate(turns, heading(self.joints)[:, None]), _HINGES.moved.astype(np.float64))
        far = max(np.linalg.norm(bones, axis=-1).max() / _MAX_TURN, np.abs(change[:, :3]).max() / (2 * _MAX_PUSH), 1.0)
        self._change(change[:, :3] / far, bones / far)

    def _change(self, move: Array, turns: Array) -> None:
        """Move the pelvis, (T, 3), and turn the bones, (T, 22, 3) rotation vectors."""
        vectors = turned_by(bone_vectors(self.joints), turns)
        self.joints = assemble(self.joints[:, 0] + move, vectors, self.lengths)

    def _standing(self) -> list[Constraint]:
        """Feet that stand, as contacts: each in the middle of where it was, or where a constraint has it."""
        own = {
            (one.joints[0], frame) for one in self.constraints if one.kind == "contact" for frame in one.frames.tolist()
        }
        found = []
        for c in find_contacts(Motion(self.joints, self.fps)):
            toe = LEGS[c.side][3]
            frames = np.array([f for f in range(c.start, c.stop) if (toe, f) not in own and not self.pinned[f]])
            if not len(frames):
                continue
            held = np.flatnonzero(self.pinned[c.start : c.stop]) + c.start
            place = self.joints[held if len(held) else frames, toe].mean(axis=0)
            heights = self.joints[frames, toe, 1]
            places = np.stack([np.full(len(frames), place[0]), heights, np.full(len(frames), place[2])], axis=-1)
            near = np.linalg.norm(places - self.joints[frames, toe], axis=-1) < _LOOSE_FOOT
            if near.any():
                found.append(Constraint("contact", "", frames[near], (toe,), places[near][:, None]))
        return found

    def _sunken(self) -> list[Constraint]:
        """Toes and ankles that came under the floor, or deeper than the motion had them, to be back on it."""
        found = []
        for joint in HUMANML3D.contacts:
            frames = np.flatnonzero((self.joints[:, joint, 1] < self.floor - _FOOT_NOISE) & ~self.pinned)
            if len(frames):
                places = np.full((len(frames), 1, 3), np.nan)
                places[..., 1] = self.floor
                found.append(Constraint("contact", "", frames, (joint,), places))
        return found

    def _rows(self, feet: Sequence[Constraint] | None, slopes: bool = True) -> Rows:
        """All constraints but whole poses, and the feet, at the motion as it is."""
        frames, joints, axes, residuals, noise = [], [], [], [], []
        smooth: list[tuple[int, int, float]] = []
        turns: list[tuple[int, float]] = []
        way = smooth_root(self.joints[:, 0, [0, 2]], self.fps) if len(self.smoothing) else None
        facing = heading(self.joints)
        given = [(one, 0.0) for one in self.constraints if not one.whole]
        loose_feet = [] if feet is None else [*feet, *self._sunken()]
        for one, loose in [*given, *((foot, _FOOT_NOISE) for foot in loose_feet)]:
            for number, frame in enumerate(one.frames.tolist()):
                if self.pinned[frame] and not one.smooth:
                    continue
                if len(one.headings) and not np.isnan(one.headings[number]) and not self.pinned[frame]:
                    turns.append((frame, wrapped(float(one.headings[number] - facing[frame]))))
                for joint, place in zip(one.joints, one.positions[number], strict=True):
                    for axis in np.flatnonzero(~np.isnan(place)).tolist():
                        if one.smooth and way is not None:
                            smooth.append((frame, axis, float(place[axis] - way[frame, axis // 2])))
                            continue
                        frames.append(frame)
                        joints.append(joint)
                        axes.append(axis)
                        residuals.append(place[axis] - self.joints[frame, joint, axis])
                        noise.append(loose)
        total = [*residuals, *(r for *_, r in smooth), *(r for _, r in turns)]
        if len(total) > MAX_ROWS:
            raise MotionGPT3Error(
                f"the constraints hold {len(total)} numbers; {MAX_ROWS} at most: name fewer joints in fewer frames"
            )
        found = Rows(
            np.zeros((0, 0)), np.zeros((0, 0)), np.array(total), np.array([*noise, *[0.0] * (len(smooth) + len(turns))])
        )
        if slopes:
            eye = np.eye(len(self.joints))
            points = (
                self._slopes(frames, joints)[np.arange(len(frames)), axes] if frames else np.zeros((0, len(_WIDTHS)))
            )
            steady = np.zeros((len(smooth), len(_WIDTHS)))
            steady[np.arange(len(smooth)), [axis for _, axis, _ in smooth]] = 1
            facings = self._facing_slopes([frame for frame, _ in turns])
            found.slopes = np.concatenate([points, steady, facings])
            steadied = self.smoothing[[frame for frame, *_ in smooth]] if smooth else np.zeros((0, len(eye)))
            found.times = np.concatenate([eye[frames], steadied, eye[[frame for frame, _ in turns]]])
        return found

    def _slopes(self, frames: Sequence[int], joints: Sequence[int]) -> Float64:
        """(N, 3, C) how each joint moves with each channel."""
        poses, which = self.joints[frames], np.asarray(joints)
        arms = poses[np.arange(len(which)), which][:, None] - poses[:, _HINGES.pivots]
        arms = arms * _HINGES.moved[:, which].T[..., None]
        turned = rotate(np.eye(3)[None], heading(poses)[:, None])  # (N, 3 axes, 3)
        swings = np.cross(turned[:, None], arms[:, :, None])  # (N, H, axes, 3)
        swings = swings.reshape(len(which), -1, 3).transpose(0, 2, 1)
        return np.concatenate([np.broadcast_to(np.eye(3), (len(which), 3, 3)), swings], axis=-1)

    def _facing_slopes(self, frames: Sequence[int]) -> Float64:
        """(N, C) how the heading, atan2(z, -x) of right minus left hip and shoulder, changes with each channel."""
        if not frames:
            return np.zeros((0, len(_WIDTHS)))
        (l_hip, r_hip), (l_shoulder, r_shoulder) = HUMANML3D.hips, HUMANML3D.shoulders
        signs = {r_hip: 1, l_hip: -1, r_shoulder: 1, l_shoulder: -1}
        across = np.sum([sign * self.joints[frames, joint] for joint, sign in signs.items()], axis=0)
        change = np.sum([sign * self._slopes(frames, [joint] * len(frames)) for joint, sign in signs.items()], axis=0)
        size = across[:, 0] ** 2 + across[:, 2] ** 2
        slopes = (-across[:, :1] * change[:, 2] + across[:, 2:] * change[:, 0]) / size[:, None]
        return np.asarray(slopes)


def matern(away: Array, scale: float) -> Float64:
    """The Matern 5/2 kernel of times (…) apart: (1 + s + s^2 / 3) exp(-s), s = sqrt(5) |away| / scale."""
    s = np.sqrt(5) * np.abs(away) / scale
    return np.asarray((1 + s + s**2 / 3) * np.exp(-s))
