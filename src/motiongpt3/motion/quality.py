"""Physical quality of a motion: foot skating, floor penetration, floating, jitter, bone lengths, seams.

Every measure is a plain function of a Motion; its docstring says what it is. All take the floor as the plane y =
`floor` (0 by default) and do not change when the motion is moved or turned along the floor. Where a motion has too few
frames to say anything, or a foot never touches the floor, the measure is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Annotated, get_type_hints

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.signals import averaged, box
from motiongpt3.motion.skeleton import Float64

CONTACT_HEIGHT = 0.05
"""Metres: a toe joint lower than this touches the floor (GMD, Karunratanakul et al. 2023)."""
SKATE_SPEED = 0.5
"""Metres per second: a touching toe faster than this skates (GMD's released evaluation; 2.5 cm per frame at 20 fps)."""
SKATE_WINDOW = 0.25
"""Seconds: the running mean of the speed must pass SKATE_SPEED too (GMD: 5 frames at 20 fps)."""
GRAVITY = 9.81
"""Metres per second squared, of what falls freely."""
FLOAT_SECONDS = 0.1
"""Seconds between the three places from which the acceleration of a body in the air is taken: by eye."""


@dataclass(frozen=True)
class Quality:
    """What `measure` says about one motion, or `summary` about several; each field with its unit.

    The fields that have the name of a function of this module are what that function gives.
    """

    skate_speed: Annotated[float, "cm/s"]
    """How fast toes near the floor move along it."""
    slip_speed: Annotated[float, "cm/s"]
    """The same for the slower toe on the floor."""
    skate_ratio: Annotated[float, "of frames"]
    """Share of frames in which a toe on the floor is faster than 0.5 m/s."""
    penetration_mean: Annotated[float, "mm"]
    """Depth of the deepest joint under the floor, mean over frames."""
    penetration_max: Annotated[float, "mm"]
    """The deepest that a joint is under the floor."""
    floating: Annotated[float, "of frames"]
    """Share of frames in the air without falling."""
    jitter: Annotated[float, "m/s³"]
    """Mean jerk of the joints. Grows with the frame rate."""
    bone_variation: Annotated[float, "mm"]
    """How much lengths of bones vary."""
    max_speed: Annotated[float, "m/s"]
    """The fastest joint."""

    def as_dict(self) -> dict[str, float]:
        """The numbers by name, ready for JSON."""
        return asdict(self)


def units(kind: type) -> dict[str, str]:
    """Unit of each field of a dataclass like `Quality`, by name."""
    return {name: hint.__metadata__[0] for name, hint in get_type_hints(kind, include_extras=True).items()}


UNITS = units(Quality)
"""Units of the fields of `Quality`."""


def measure(motion: Motion, floor: float = 0.0) -> Quality:
    """All measures of one motion, the floor at y = `floor` metres."""
    depth = penetration(motion, floor)
    return Quality(
        skate_speed(motion, floor),
        slip_speed(motion, floor),
        skate_ratio(motion, floor),
        float(depth.mean()),
        float(depth.max()),
        floating(motion, floor),
        jitter(motion),
        bone_variation(motion),
        max_speed(motion),
    )


def summary(qualities: Iterable[Quality]) -> Quality:
    """The mean of each number over motions, every motion counting once (so `penetration_max` is a mean of maxima).

    Raises:
        MotionGPT3Error: there are none.
    """
    rows = list(qualities)
    if not rows:
        raise MotionGPT3Error("no motions to summarise")
    return Quality(*(float(np.mean(column)) for column in zip(*map(astuple, rows), strict=True)))


def skate_speed(motion: Motion, floor: float = 0.0) -> float:
    """Mean horizontal speed of the toes near the floor, each frame weighted by how near. cm/s.

    `sum(w v) / sum(w)`, `w = max(0, 2 - 2^(h / H))`, v the toe's horizontal speed, h its height clipped at 0 and
    H = 5 cm. The weight is that of Zhang et al. 2018 ("Mode-Adaptive Neural Networks", H = 2.5 cm), normalised so
    that jumps do not dilute it. A walking person's swinging toe passes within 2 cm of the floor and counts a
    little, so compare with real motion of the same kind; `slip_speed` does not have this floor.
    """
    speed, height = _toes(motion, floor)
    weight = np.maximum(0.0, 2.0 - 2.0 ** (np.maximum(height, 0.0) / CONTACT_HEIGHT))
    total = float(weight.sum())
    return 100.0 * float((weight * speed).sum()) / total if total > 0 else 0.0


def slip_speed(motion: Motion, floor: float = 0.0) -> float:
    """Mean over frames with a toe on the floor of the horizontal speed of the slowest such toe. cm/s.

    Whoever stands, walks or runs has one toe nearly at rest whenever any touches the floor: what is left is sliding of
    the whole body. A lower bound of skating; real capture has 4 cm/s standing, 8 walking,
    25 running; a body that glides along at v gives about v.
    """
    speed, height = _toes(motion, floor)
    touching = height < CONTACT_HEIGHT
    frames = touching.any(axis=1)
    if not frames.any():
        return 0.0
    slowest = np.where(touching, speed, np.inf).min(axis=1)
    return 100.0 * float(slowest[frames].mean())


def skate_ratio(motion: Motion, floor: float = 0.0) -> float:
    """Share of frames in which a toe touches the floor and skates, 0 to 1.

    The skating ratio of GMD (Karunratanakul et al. 2023) and OmniControl (Xie et al. 2024): over frame pairs, a toe
    is lower than 5 cm in both frames, its horizontal speed exceeds 0.5 m/s, and so does the running mean of that speed
    over 0.25 s (zeros beyond the ends); either foot counts.
    """
    speed, height = _toes(motion, floor)
    if not len(speed):
        return 0.0
    mean = averaged(speed, box(max(0, round((SKATE_WINDOW * motion.fps - 1) / 2))), "zero")
    skates = (height < CONTACT_HEIGHT) & (speed > SKATE_SPEED) & (mean > SKATE_SPEED)
    return float(skates.any(axis=1).mean())


def penetration(motion: Motion, floor: float = 0.0) -> Float64:
    """(T,) depth of the deepest joint under the floor in each frame in mm; 0 where none is under it."""
    lowest = motion.joints[..., 1].min(axis=1).astype(np.float64)
    return np.maximum(0.0, floor - lowest) * 1000.0


def floating(motion: Motion, floor: float = 0.0) -> float:
    """Share of frames in which nothing carries the body and yet it does not fall, 0 to 1.

    A frame floats when every joint is higher than 5 cm and the mean of all joints, smoothed over 0.2 s, accelerates
    downwards by less than g / 2: in a jump it would fall with g. Sitting or hanging clear of the floor counts too,
    for the motion does not show what holds the person.
    """
    y = motion.joints[..., 1].astype(np.float64) - floor
    clear = y.min(axis=1) > CONTACT_HEIGHT
    step = max(1, round(FLOAT_SECONDS * motion.fps))
    if len(y) <= step:
        return float(clear.mean())
    middle = np.pad(y.mean(axis=1), step, mode="reflect", reflect_type="odd")
    time = step / motion.fps
    acceleration = (middle[2 * step :] - 2 * middle[step:-step] + middle[: -2 * step]) / time**2
    # A second difference over a window that reaches past take-off or landing is blunted: its neighbours decide too.
    reach = np.pad(acceleration, step, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(reach, 2 * step + 1).min(axis=1)
    return float((clear & (lowest > -GRAVITY / 2)).mean())


def jitter(motion: Motion) -> float:
    """Mean jerk: the mean over frames and joints of ‖x[t+3] - 3 x[t+2] + 3 x[t+1] - x[t]‖ fps³. m/s³.

    As reported by TransPose (Yi et al. 2021). It grows steeply with the frame rate when there is noise: compare
    motions of the same fps only.
    """
    jerk = _jerk(motion)
    return float(jerk.mean()) if jerk.size else 0.0


def bone_variation(motion: Motion) -> float:
    """Mean over bones of the standard deviation over time of the bone's length. mm."""
    vectors = bone_vectors(motion.joints.astype(np.float64), motion.skeleton)[:, 1:]
    lengths = np.linalg.norm(vectors.swapaxes(0, 1).copy(), axis=-1)
    return 1000.0 * float(lengths.std(axis=1).mean()) if lengths.size else 0.0


def max_speed(motion: Motion) -> float:
    """Speed of the fastest joint between two frames. m/s; nobody's wrist passes 20 in daily life."""
    if len(motion) < 2:
        return 0.0
    steps = np.diff(motion.joints.astype(np.float64), axis=0)
    return float(np.linalg.norm(steps, axis=-1).max()) * motion.fps


def seam_jerk(motion: Motion, seams: Sequence[int], within: int = 4) -> float:
    """Largest jerk of any joint (as in `jitter`, not averaged) within some frames of a seam. m/s³.

    Args:
        motion: the joined motion.
        seams: index of the first frame after each seam.
        within: how many frames the four-frame window's middle may lie from the seam, at most.

    Raises:
        MotionGPT3Error: a seam lies outside the motion.
    """
    for seam in seams:
        if not 0 < seam < len(motion):
            raise MotionGPT3Error(f"seam {seam} is not inside the motion's frames 1 to {len(motion) - 1}")
    jerk = _jerk(motion)
    if not jerk.size or not len(seams):
        return 0.0
    middle = np.arange(len(jerk)) + 1.5
    near = (np.abs(middle[:, None] - (np.asarray(seams) - 0.5)) <= within).any(axis=1)
    return float(jerk[near].max()) if near.any() else 0.0


def _jerk(motion: Motion) -> Float64:
    """(T-3, J) length of the third difference times fps³; empty for fewer than four frames."""
    third = np.diff(motion.joints.astype(np.float64), n=3, axis=0)
    return np.asarray(np.linalg.norm(third, axis=-1) * motion.fps**3)


def _toes(motion: Motion, floor: float) -> tuple[Float64, Float64]:
    """(T-1, 2) horizontal speed of the left and right toe in m/s, and the greater of the step's two heights in m."""
    toes = motion.joints[:, list(motion.skeleton.contacts[1::2])].astype(np.float64)
    speed = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * motion.fps
    return np.asarray(speed), np.maximum(toes[1:, :, 1], toes[:-1, :, 1]) - floor
