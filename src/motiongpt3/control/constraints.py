"""Constraints: where the person walks, which pose comes when, what a hand touches, when a foot stands.

Public as `motiongpt3.constraints`. Positions are metres, y up, on the ground (x, z); a heading of 0 faces +z, a
positive one turns towards +x (the person's left), in radians or as (cos, sin). Every kind says when by `seconds` or by
`frames` (from 0). `resolve` turns all kinds into the one that everything below works with, `Constraint`, and refuses
what cannot be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import MAX_FRAMES, Motion, require_humanml3d
from motiongpt3.motion.poses import wrapped, yaw_of
from motiongpt3.motion.skeleton import HUMANML3D, LEGS, Array, Float64

MAX_CONSTRAINTS = 10_000
"""Constraints of one motion: more than anybody sets, and little enough to be checked in seconds."""
MAX_FROM_ORIGIN = 1000.0
"""Metres from the origin: a motion of 10 s reaches no farther than 125 m."""
MAX_ROOT_SPEED = 12.5
"""Metres per second: the fastest that anybody ran (Bolt, Berlin 2009: 12.4)."""
MAX_JOINT_SPEED = 40.0
"""Metres per second: about the hand of the fastest pitcher."""
MAX_JUMP = 0.6
"""Metres that the whole body leaves the ground in a good standing jump."""
SAME_POSITION = 1e-5
"""Metres: what is nearer is the same place; the precision of the exact fit."""
CLOSE = 5e-3
"""Metres: by so much a place may miss a whole pose of its frame and give way to it. Recordings of one body, whose bones
vary by a tenth of a millimetre, differ so along a chain of bones."""
SAME_HEADING = 1e-3
"""Radians: the precision of the exact fit."""
_LEFT_RIGHT = (("left_", "l_"), ("right_", "r_"))


@dataclass(frozen=True, eq=False)
class RootPath:
    """Where the pelvis is above the ground.

    Examples:
        >>> path = RootPath(seconds=[0, 1, 2], xz=[[0, 0], [0, 1], [0.6, 2]])
        >>> path.xz.shape
        (3, 2)

    Attributes:
        xz: (K, 2) metres.
        seconds: (K,) when; or `frames`.
        frames: (K,) when.
        headings: where the person faces: (K,) radians or (K, 2) (cos, sin). None: along the path, as the motion does.
        smooth: the path is that of the smoothed pelvis, without its swaying: see `control.bend.smooth_root`.
    """

    xz: ArrayLike
    seconds: ArrayLike | None = None
    frames: ArrayLike | None = None
    headings: ArrayLike | None = None
    smooth: bool = False

    def __post_init__(self) -> None:
        xz = numbers(self.xz, "the root path", (None, 2))
        _times(self, len(xz), "the root path")
        object.__setattr__(self, "xz", xz)
        if self.headings is not None:
            object.__setattr__(self, "headings", _headings(self.headings, len(xz)))


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A pose at one time.

    Attributes:
        pose: (22, 3) metres, or a `Motion` of one frame, such as `motion[40]`.
        seconds: when; or `frame`.
        frame: when.
        joints: names of the joints that count, such as ("r_wrist", "head"); None: all.
        placed: whether it also counts where the pose stands and faces; if not, it comes wherever the person is then.
    """

    pose: Any
    seconds: float | None = None
    frame: int | None = None
    joints: Sequence[str] | None = None
    placed: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.pose, Motion):
            require_humanml3d(self.pose, "keyframe")
            if len(self.pose) != 1:
                raise MotionGPT3Error(f"a keyframe is one pose, not {len(self.pose)}: give motion[40], not the motion")
            object.__setattr__(self, "pose", self.pose.joints[0])
        object.__setattr__(self, "pose", numbers(self.pose, "a keyframe", (22, 3)))
        _times(self, None, "a keyframe")
        if self.joints is not None:
            names = [self.joints] if isinstance(self.joints, str) else list(self.joints)
            if not names:
                raise MotionGPT3Error("a keyframe of no joints holds nothing: name some, or leave joints out for all")
            object.__setattr__(self, "joints", tuple(HUMANML3D.names[joint_index(name)] for name in names))


@dataclass(frozen=True, eq=False)
class EffectorTarget:
    """Where one joint is.

    Attributes:
        joint: such as "left_hand", "right_foot", "head" or a joint's own name ("l_wrist").
        positions: (K, 3) metres, or one (3,).
        seconds: (K,) when; or `frames`.
        frames: (K,) when.
    """

    joint: str
    positions: ArrayLike
    seconds: ArrayLike | None = None
    frames: ArrayLike | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "joint", HUMANML3D.names[joint_index(self.joint)])
        positions = np.atleast_2d(numbers(self.positions, f"the target of {self.joint}", None))
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise MotionGPT3Error(f"the target of {self.joint} must be (K, 3) positions, not {positions.shape}")
        _times(self, len(positions), f"the target of {self.joint}")
        object.__setattr__(self, "positions", positions)


@dataclass(frozen=True, eq=False)
class Contact:
    """A foot that stands: its toes stay in one place on the floor, where the motion has them, or `position` says.

    Attributes:
        joint: "left_foot" or "right_foot".
        start: from when, seconds; or frames.
        end: until when, seconds; or frames (the last one that stands).
        frames: the times are frames.
        position: (3,) metres, or None.
    """

    joint: str
    start: float
    end: float
    frames: bool = False
    position: ArrayLike | None = None

    def __post_init__(self) -> None:
        joint = joint_index(self.joint)
        if joint not in [toe for *_, toe in LEGS]:
            raise MotionGPT3Error(f"a contact is of the left_foot or the right_foot, not of {str(self.joint)[:40]!r}")
        object.__setattr__(self, "joint", HUMANML3D.names[joint])
        start, end = (float(numbers(t, f"the contact of {self.joint}", (), MAX_FRAMES)) for t in (self.start, self.end))
        if not 0 <= start <= end:
            raise MotionGPT3Error(f"the contact of {self.joint} must end after it starts, not go {start:g} to {end:g}")
        if self.position is not None:
            object.__setattr__(self, "position", numbers(self.position, f"the contact of {self.joint}", (3,)))


AnyConstraint = RootPath | Keyframe | EffectorTarget | Contact
"""What users give."""
Kind = Literal["root", "keyframe", "effector", "contact"]


@dataclass(frozen=True, eq=False)
class Constraint:
    """What all kinds become: joints that are at places in frames.

    Attributes:
        kind: which it was.
        label: what it is, in words.
        frames: (K,) rising, within the motion.
        joints: J of them.
        positions: (K, J, 3) metres, NaN where free. A contact's may be all NaN: one place, which the motion decides.
        headings: (K,) radians, NaN where free.
        smooth: positions are those of the smoothed pelvis.
        placed: whether place and heading count, or the pose alone.
    """

    kind: Kind
    label: str
    frames: NDArray[np.int64]
    joints: tuple[int, ...]
    positions: Float64
    headings: Float64 = field(default_factory=lambda: np.zeros(0))
    smooth: bool = False
    placed: bool = True

    @property
    def whole(self) -> bool:
        """Whether it is a pose of all joints."""
        return len(self.joints) == len(HUMANML3D)


def joint_index(name: Any) -> int:
    """Index of a joint by its name or a plain one: "left_hand" is "l_wrist", "left_foot" is "l_foot", the toes.

    Raises:
        MotionGPT3Error: there is none.
    """
    plain = str(name).strip().lower().replace("-", "_").replace(" ", "_")
    for word, short in _LEFT_RIGHT:
        plain = plain.replace(word, short)
    plain = {"l_hand": "l_wrist", "r_hand": "r_wrist", "hips": "pelvis", "root": "pelvis"}.get(plain, plain)
    if plain not in HUMANML3D.names:
        known = ", ".join(HUMANML3D.names)
        raise MotionGPT3Error(f"no joint {str(name)[:40]!r}: there are left_hand, right_hand, {known}")
    return HUMANML3D.index(plain)


class Resolved(NamedTuple):
    """Constraints as frames and joints, and what is wrong with them: the worst first, a line each."""

    constraints: list[Constraint]
    problems: list[str]


def last_frame(constraints: Sequence[AnyConstraint], fps: float) -> int:
    """The last frame that any constraint names, -1 without any."""
    ends = [_frames(given, fps).max(initial=-1) for given in constraints]
    return int(max(ends, default=-1))


def resolve(
    constraints: Sequence[AnyConstraint],
    frames: int,
    fps: float,
    lengths: Array | None = None,
    best_effort: bool = False,
) -> Resolved:
    """Constraints as frames and joints, checked against a motion's length and a body.

    Args:
        constraints: what a user gave.
        frames: of the motion.
        fps: of the motion.
        lengths: (22,) of its bones, the skeleton's own unless given.
        best_effort: leave out, or bring near, what cannot be, and say so, instead of refusing it.

    Raises:
        MotionGPT3Error: too many, not a constraint, or something that nobody can do: outside the motion, out of reach,
            too quick, two places at once.
    """
    check_constraints(constraints)
    found, problems = [], []
    nearest = _nearest_poses(constraints, fps)
    for number, given in enumerate(constraints):
        if isinstance(given, Keyframe) and number not in nearest:
            continue
        at = _frames(given, fps)
        if not _in_frames(given):
            at[at == frames] = frames - 1  # the end of a motion in seconds is its last frame
        inside = at < frames
        if not inside.all():
            problems.append(
                f"{_label(given, number)} is at {at.max() / fps:g} s (frame {at.max()}), but the motion has "
                f"{frames / fps:g} s (frames 0 to {frames - 1}): {(at.max() - frames + 1) / fps:g} s too late"
            )
        if inside.any():
            found.append(_resolved(given, _label(given, number), at, inside, fps))
    lengths = HUMANML3D.bone_lengths if lengths is None else lengths
    found = _with_poses([_with_lengths(one, lengths) for one in found])
    held = _held(found)
    problems += [*_disagreeing(found, held, fps), *_too_quick(held, fps), *_out_of_reach(found, held, fps, lengths)]
    if problems and not best_effort:
        rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise MotionGPT3Error(problems[0] + rest)
    return Resolved(found, problems)


def check_constraints(constraints: Any) -> None:
    """Refuse what is no list of constraints, or too long a one, before anything heavy is loaded."""
    if isinstance(constraints, AnyConstraint) or not isinstance(constraints, Sequence):
        raise MotionGPT3Error("constraints are a list: [constraints.Keyframe(...), …]")
    if len(constraints) > MAX_CONSTRAINTS:
        raise MotionGPT3Error(f"there are {len(constraints)} constraints; a motion takes {MAX_CONSTRAINTS} at most")
    for given in constraints:
        if not isinstance(given, AnyConstraint):
            raise MotionGPT3Error(f"a constraint is one of motiongpt3.constraints, not {type(given).__name__}")


# What users give, checked.


def numbers(values: Any, name: str, shape: tuple[int | None, ...] | None, most: float = MAX_FROM_ORIGIN) -> Float64:
    """Finite numbers of a shape as float64."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise MotionGPT3Error(f"{name} must be numbers, not {str(values)[:40]!r}") from None
    if shape is not None and (
        array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True))
    ):
        wanted = "(" + ", ".join("K" if n is None else str(n) for n in shape) + ")" if shape else "one number"
        raise MotionGPT3Error(f"{name} must have numbers of shape {wanted}, not {array.shape}")
    if not np.isfinite(array).all():
        raise MotionGPT3Error(f"{name} has NaN or infinite numbers")
    if np.abs(array).max(initial=0) > most:
        raise MotionGPT3Error(f"{name} has a number beyond {most:g}; positions are in metres")
    array.setflags(write=False)
    return array


def _headings(values: Any, count: int) -> Float64:
    array = numbers(values, "headings", None)
    if array.shape == (count, 2):
        if np.linalg.norm(array, axis=-1).min(initial=1) < 1e-6:
            raise MotionGPT3Error("a heading of (0, 0) faces nowhere: give (cos, sin) or radians")
        return np.asarray(np.arctan2(array[:, 1], array[:, 0]))
    if array.shape != (count,):
        raise MotionGPT3Error(f"headings must be {count} angles in radians or (cos, sin), not {array.shape}")
    return array


def _times(given: Any, count: int | None, name: str) -> None:
    """Check that a constraint has seconds or frames, `count` of them, or one if it is None."""
    single = count is None
    frames = given.frame if single else given.frames
    if (given.seconds is None) == (frames is None):
        raise MotionGPT3Error(f"{name} needs either seconds or {'frame' if single else 'frames'}")
    which, values = ("seconds", given.seconds) if frames is None else ("frame" if single else "frames", frames)
    times = numbers(values, f"{which} of {name}", None, MAX_FRAMES)
    times = times if single or times.ndim else times[None]
    if times.shape != (() if single else (count,)):
        raise MotionGPT3Error(f"{name} has {count or 1} positions and {times.size} {which}: give one for each")
    if times.size == 0:
        raise MotionGPT3Error(f"{name} is empty")
    if times.min() < 0:
        raise MotionGPT3Error(f"{name} is at {times.min():g} {which}, before the motion begins")
    if which != "seconds" and (times != np.round(times)).any():
        raise MotionGPT3Error(f"{which} of {name} must be whole numbers")
    if not single and len(np.unique(times)) < len(times):
        raise MotionGPT3Error(f"{name} names the same {which} twice")
    object.__setattr__(given, which, float(times) if single else times)


def _frames(given: AnyConstraint, fps: float) -> NDArray[np.int64]:
    """(K,) the frames of a constraint. The end of a motion, its seconds, is its last frame."""
    if isinstance(given, Contact):
        start, end = (round(t if given.frames else t * fps) for t in (given.start, given.end))
        return np.arange(start, max(end if given.frames else end - 1, start) + 1)
    frames = given.frame if isinstance(given, Keyframe) else given.frames
    if frames is not None:
        return np.atleast_1d(np.asarray(frames)).astype(np.int64)
    return np.atleast_1d(np.round(np.asarray(given.seconds, dtype=np.float64) * fps)).astype(np.int64)


def _label(given: AnyConstraint, number: int) -> str:
    """What a constraint is, in words, with its place in the list."""
    if isinstance(given, RootPath):
        name = "root path"
    elif isinstance(given, Keyframe):
        name = "keyframe" if given.joints is None else f"keyframe of {', '.join(given.joints)}"
    else:
        name = f"{'target' if isinstance(given, EffectorTarget) else 'contact'} of {given.joint}"
    return f"constraint {number + 1} ({name})"


def _in_frames(given: AnyConstraint) -> bool:
    """Whether a constraint says when by frames."""
    if isinstance(given, Contact):
        return given.frames
    return (given.frame if isinstance(given, Keyframe) else given.frames) is not None


def _nearest_poses(constraints: Sequence[AnyConstraint], fps: float) -> set[int]:
    """Which keyframes count: of those whose seconds fall on one frame, as at a higher rate, the nearest to it."""
    nearest: dict[tuple[Any, ...], tuple[float, int]] = {}
    for number, given in enumerate(constraints):
        if isinstance(given, Keyframe):
            frame = int(_frames(given, fps)[0])
            off = 0.0 if given.seconds is None else abs(given.seconds * fps - frame)
            key = (number,) if off < 1e-6 else (frame, given.joints, given.placed)
            nearest[key] = min(nearest.get(key, (off, number)), (off, number))
    exact = {(int(_frames(given, fps)[0]), given.joints, given.placed) for key in nearest if len(key) == 1
             if isinstance(given := constraints[key[0]], Keyframe)}  # fmt: skip
    return {number for key, (_, number) in nearest.items() if len(key) == 1 or key not in exact}


def _sampled(
    given: RootPath | EffectorTarget, at: NDArray[np.int64], values: Float64, fps: float
) -> tuple[Any, Float64]:
    """The frames that a constraint names, rising, and its values (K, D) there.

    Seconds that are no frame's count for the nearest; where they lie closer than frames, as at a higher rate, values
    are interpolated.
    """
    if given.seconds is None:
        order = np.argsort(at)
        return at[order], values[order]
    times = np.asarray(given.seconds, dtype=np.float64) * fps
    order = np.argsort(times)
    times, values = times[order], values[order]
    frames = np.unique(at)
    picked = []
    for frame in frames.tolist():
        near = int(np.abs(times - frame).argmin())
        after = int(np.searchsorted(times, frame))
        if 0 < after < len(times) and 1e-6 < times[after] - times[after - 1] < 1 - 1e-6:
            share = (frame - times[after - 1]) / (times[after] - times[after - 1])
            picked.append(values[after - 1] + share * (values[after] - values[after - 1]))
        else:
            picked.append(values[near])
    return frames, np.array(picked)


def _resolved(
    given: AnyConstraint, label: str, at: NDArray[np.int64], inside: NDArray[np.bool_], fps: float
) -> Constraint:
    """One constraint as frames and joints: those that lie inside the motion."""
    if isinstance(given, RootPath | EffectorTarget):
        path = isinstance(given, RootPath)
        places = np.asarray(given.xz if isinstance(given, RootPath) else given.positions, dtype=np.float64)
        headings = given.headings if isinstance(given, RootPath) else None
        angles = np.full(len(at), np.nan) if headings is None else np.unwrap(np.asarray(headings, dtype=np.float64))
        frames, values = _sampled(given, at, np.concatenate([places, angles[:, None]], axis=1), fps)
        keep = frames < at[inside].max() + 1
        frames, values = frames[keep], values[keep]
        if path:
            values = np.insert(values, 1, np.nan, axis=1)
        joint = 0 if isinstance(given, RootPath) else HUMANML3D.index(given.joint)
        return Constraint(
            "root" if path else "effector",
            label,
            frames,
            (joint,),
            values[:, None, :3],
            values[:, 3],
            isinstance(given, RootPath) and given.smooth,
        )
    at, count = at[inside], int(inside.sum())
    if isinstance(given, Keyframe):
        names = HUMANML3D.names if given.joints is None else given.joints
        joints = tuple(dict.fromkeys(HUMANML3D.index(name) for name in names))
        pose = np.asarray(given.pose)[None, list(joints)]
        return Constraint("keyframe", label, at, joints, pose, placed=given.placed)
    joint = HUMANML3D.index(given.joint)
    place = np.full(3, np.nan) if given.position is None else np.asarray(given.position)
    return Constraint("contact", label, at, (joint,), np.tile(place, (count, 1, 1)))


def _with_lengths(one: Constraint, lengths: Array) -> Constraint:
    """A pose with the bone lengths of the motion: bones between two of its joints keep their directions."""
    if one.kind != "keyframe":
        return one
    pose = {joint: place.copy() for joint, place in zip(one.joints, one.positions[0], strict=True)}
    wanted = dict(pose)
    for joint in sorted(pose):
        parent = HUMANML3D.parents[joint]
        if parent in pose:
            bone = pose[joint] - pose[parent]
            wanted[joint] = wanted[parent] + bone * (lengths[joint] / max(float(np.linalg.norm(bone)), 1e-8))
    joints = tuple(sorted(wanted))
    return replace(one, joints=joints, positions=np.array([[wanted[joint] for joint in joints]]))


def _with_poses(found: Sequence[Constraint]) -> list[Constraint]:
    """Places that a whole pose of the same frame misses by less than `CLOSE` are moved to it.

    They are of the same recording, whose bones were a little longer or shorter.
    """
    poses = {int(one.frames[0]): one.positions[0] for one in reversed(found) if one.whole and one.placed}
    moved = []
    for one in found:
        positions = one.positions.copy()
        if one.placed and not one.smooth:
            for number, frame in enumerate(one.frames.tolist()):
                if frame in poses:
                    own = poses[frame][list(one.joints)]
                    free = np.isnan(positions[number])
                    close = np.linalg.norm(np.where(free, 0, positions[number] - own), axis=-1) < CLOSE
                    positions[number] = np.where(close[:, None] & ~free, own, positions[number])
        moved.append(replace(one, positions=positions))
    return moved


Held = dict[int, list[tuple[int, Float64, str]]]
"""By frame, rising, the joints that are held in fixed places there: joint, (3,) place and label."""


def _held(found: Sequence[Constraint]) -> Held:
    held: Held = {}
    for one in found:
        if one.smooth or not one.placed:
            continue
        for number, frame in enumerate(one.frames.tolist()):
            for which, place in zip(one.joints, one.positions[number], strict=True):
                if not np.isnan(place).all():
                    held.setdefault(frame, []).append((which, place, one.label))
    return dict(sorted(held.items()))


def _disagreeing(found: Sequence[Constraint], held: Held, fps: float) -> list[str]:
    """Lines about joints that are to be at two places in one frame, and about two headings."""
    problems = []
    for frame, places in held.items():
        first: dict[int, tuple[Float64, str]] = {}
        worst: tuple[float, str] = (SAME_POSITION, "")
        for joint, place, label in places:
            if joint not in first:
                first[joint] = place, label
                continue
            other, before = first[joint]
            away = float(np.sqrt(np.nansum((place - other) ** 2)))
            if away > worst[0]:
                worst = away, f"{before} and {label} want {HUMANML3D.names[joint]} at two places {away:.2f} m apart"
        if worst[1]:
            problems.append(f"{worst[1]} at {frame / fps:g} s (frame {frame})")
    angles: dict[int, tuple[float, str]] = {}
    for one in found:
        for frame, angle in zip(one.frames.tolist(), wanted_headings(one).tolist(), strict=True):
            if not np.isnan(angle):
                faced, before = angles.setdefault(frame, (angle, one.label))
                if abs(away := wrapped(angle - faced)) > SAME_HEADING:
                    apart = f"{np.degrees(abs(away)):.0f} degrees apart at {frame / fps:g} s (frame {frame})"
                    problems.append(f"{before} and {one.label} face two ways {apart}")
    return problems


def wanted_headings(one: Constraint) -> Float64:
    """(K,) radians that a constraint asks the person to face, NaN where it does not say."""
    if one.kind == "keyframe" and one.whole and one.placed:
        return np.array([yaw_of(pose) for pose in one.positions])
    return one.headings if len(one.headings) else np.full(len(one.frames), np.nan)


def _too_quick(held: Held, fps: float) -> Iterator[str]:
    """Lines about joints that would have to be faster than anybody is."""
    for joint in range(len(HUMANML3D)):
        limit = MAX_ROOT_SPEED if joint == 0 else MAX_JOINT_SPEED
        last: tuple[int, Float64] | None = None
        for frame, places in held.items():
            own = next((one for one in places if one[0] == joint), None)
            if own is None:
                continue
            _, place, label = own
            if last is not None:
                speed = float(np.sqrt(np.nansum((place - last[1]) ** 2))) * fps / (frame - last[0])
                if speed > limit:
                    yield (
                        f"{label} moves {HUMANML3D.names[joint]} at {speed:.1f} m/s up to {frame / fps:g} s (frame "
                        f"{frame}): {speed - limit:.1f} m/s more than the {limit:g} m/s that people reach"
                    )
                    break
            last = frame, place


def _out_of_reach(found: Sequence[Constraint], held: Held, fps: float, lengths: Array) -> Iterator[str]:
    """Lines about joints that are too high over the floor, or too far from one another for the bones between them."""
    toes = [toe for *_, toe in LEGS]
    poses = {one.label for one in found if one.whole}
    for frame, every in held.items():
        places = list({joint: (joint, place, label) for joint, place, label in reversed(every)}.values())
        for joint, place, label in places:
            most = max(_span(joint, toe, lengths) for toe in toes) + MAX_JUMP
            if place[1] > most:
                yield (
                    f"{label} wants {HUMANML3D.names[joint]} {place[1]:.2f} m up at {frame / fps:g} s (frame {frame}): "
                    f"{place[1] - most:.2f} m higher than the {most:.2f} m that this body reaches in a jump"
                )
        for (a, at, label), (b, to, other) in combinations(places, 2):
            if label == other and label in poses:
                continue  # its bones have their lengths
            away, most = float(np.sqrt(np.nansum((at - to) ** 2))), _span(a, b, lengths)
            if away > most + SAME_POSITION:
                yield (
                    f"{label} and {other} put {HUMANML3D.names[a]} and {HUMANML3D.names[b]} {away:.2f} m apart at "
                    f"{frame / fps:g} s (frame {frame}): {away - most:.2f} m more than the bones between them"
                )
                break


def _span(a: int, b: int, lengths: Array) -> float:
    """Metres of bone between two joints."""
    above = [set(_ancestors(joint)) for joint in (a, b)]
    return float(sum(lengths[joint] for joint in above[0] ^ above[1]))


def _ancestors(joint: int) -> Iterator[int]:
    """A joint and those above it, without the root."""
    while joint > 0:
        yield joint
        joint = HUMANML3D.parents[joint]
