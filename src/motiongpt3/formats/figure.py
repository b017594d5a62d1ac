"""The body that is drawn: which capsules hang on which joints, how thick, in which colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.skeleton import Float32, Skeleton

LEFT = (52, 120, 200)
RIGHT = (236, 132, 44)
MIDDLE = (116, 126, 144)
HEAD = (196, 202, 212)
FACE = (78, 86, 102)

_RADII = {
    "spine1": (0.100, 0.095), "spine2": (0.095, 0.100), "spine3": (0.096, 0.082), "neck": (0.070, 0.048),
    "head": (0.048, 0.046), "collar": (0.092, 0.078), "shoulder": (0.078, 0.062), "elbow": (0.055, 0.043),
    "wrist": (0.043, 0.032), "hip": (0.098, 0.094), "knee": (0.084, 0.057), "ankle": (0.057, 0.040),
    "foot": (0.042, 0.036),
}  # fmt: skip
"""Radii in metres at the parent's and at the joint's end of the bone that ends in a joint."""
_EXTRA = (
    ("wrist", "tip", (0.034, 0.026)), ("ankle", "heel", (0.040, 0.034)), ("heel", "foot", (0.034, 0.036)),
    ("foot", "toe", (0.036, 0.029)),
)  # fmt: skip
"""Capsules that end in a derived point, by the names of their ends without the side."""
_LIMBS = ("elbow", "wrist", "knee", "ankle", "foot")


@dataclass(frozen=True)
class Figure:
    """Capsules between points; some points are joints and some are derived (finger tips, soles, head).

    Attributes:
        skeleton: whose joints are drawn.
        start: (B,) point index where each capsule starts; `end` where it ends. Equal for a ball.
        end: (B,) see `start`.
        radii: (B, 2) metres at start and end.
        colours: (B, 3) red, green, blue, 0 to 255.
        scale: 1 for a person of ordinary size; multiplies everything in metres.
    """

    skeleton: Skeleton
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    radii: Float32
    colours: Float32
    scale: float

    def points(self, joints: Float32) -> Float32:
        """(T, J, 3) joints -> (T, P, 3) points: the joints, then the derived ones in the order of `_derived`."""
        made = [joints, *(point[:, None] for point in _derived(self.skeleton, joints, self.scale).values())]
        return np.concatenate(made, axis=1).astype(np.float32)


def figure_of(skeleton: Skeleton, joints: Float32) -> Figure:
    """The figure for a skeleton; its thickness follows the size of the body in `joints` (T, J, 3)."""
    parents = np.asarray(skeleton.parents)
    child = np.flatnonzero(parents >= 0)
    sample = joints[:: max(1, len(joints) // 16)]
    lengths = np.linalg.norm(sample[:, child] - sample[:, parents[child]], axis=-1).mean(axis=0)
    rest = float(skeleton.bone_lengths.sum())
    scale = float(np.clip(lengths.sum() / rest, 1e-3, 1e5)) if rest > 0 else 1.0
    side = {joint: LEFT for joint, _ in skeleton.pairs} | {joint: RIGHT for _, joint in skeleton.pairs}
    names = {name: i for i, name in enumerate(skeleton.names)}
    known = "wrist" in " ".join(skeleton.names)
    start, end, radii, colours = [], [], [], []

    def add(a: int, b: int, radius: tuple[float, float], colour: tuple[int, int, int]) -> None:
        start.append(a)
        end.append(b)
        radii.append(radius)
        colours.append(colour)

    for joint in child:
        name = skeleton.names[joint]
        kind = name.removeprefix("l_").removeprefix("r_")
        thickness = float(np.clip(0.2 * skeleton.bone_lengths[joint], 0.03, 0.08))
        colour = side.get(int(joint), MIDDLE) if kind in _LIMBS or not known else MIDDLE
        add(int(parents[joint]), int(joint), _RADII.get(kind, (thickness, thickness)), colour)
    if {"spine1", "l_collar", "r_collar"} <= set(skeleton.names):
        for collar in ("l_collar", "r_collar"):
            add(skeleton.index("spine1"), skeleton.index(collar), (0.094, 0.080), MIDDLE)
    point = {name: len(skeleton) + i for i, name in enumerate(_derived(skeleton, joints[:1], scale))}
    for near, far, radius in _EXTRA:
        for hand in ("l_", "r_"):
            ends = [point.get(hand + n, names.get(hand + n, -1)) for n in (near, far)]
            if min(ends) >= 0 and max(ends) >= len(skeleton):
                add(ends[0], ends[1], radius, {"l_": LEFT, "r_": RIGHT}[hand])
    if "ball" in point:
        add(point["ball"], point["ball"], (0.108, 0.108), HEAD)
        add(point["l_brow"], point["r_brow"], (0.036, 0.036), FACE)
    return Figure(
        skeleton,
        np.asarray(start, dtype=np.int64),
        np.asarray(end, dtype=np.int64),
        np.asarray(radii, dtype=np.float32).reshape(-1, 2) * np.float32(scale),
        np.asarray(colours, dtype=np.float32).reshape(-1, 3),
        scale,
    )


def _derived(skeleton: Skeleton, joints: Float32, scale: float) -> dict[str, NDArray[np.floating]]:
    """Points beyond the joints (T, J, 3) by name, (T, 3) each: finger tips, heels, toe tips, the head and its visor.

    Empty for joints that a skeleton does not have. HumanML3D's foot joint is the ball of the foot and lies lower than
    the ankle, so the sole is found by taking out of the foot's direction the part along the shin.
    """
    at = {name: joints[:, i] for i, name in enumerate(skeleton.names)}
    made: dict[str, NDArray[np.floating]] = {}
    for side in ("l_", "r_"):
        if {side + "elbow", side + "wrist"} <= at.keys():
            wrist = at[side + "wrist"]
            made[side + "tip"] = wrist + _unit(wrist - at[side + "elbow"]) * 0.10 * scale
        if {side + "knee", side + "ankle", side + "foot"} <= at.keys():
            ankle, ball = at[side + "ankle"], at[side + "foot"]
            shin = _unit(ankle - at[side + "knee"])
            sole = _unit(_unit(ball - ankle) - 0.5 * shin)
            made[side + "heel"] = ankle + (0.050 * shin - 0.045 * sole) * scale
            made[side + "toe"] = ball + 0.065 * sole * scale
    if {"neck", "head"} <= at.keys():
        left, right = skeleton.shoulders
        up, side_way = _unit(at["head"] - at["neck"]), _unit(joints[:, left] - joints[:, right])
        ahead = _unit(np.cross(side_way, up))
        made["ball"] = at["head"] + (0.055 * up + 0.015 * ahead) * scale
        face = made["ball"] + (0.086 * ahead + 0.012 * up) * scale
        made["l_brow"], made["r_brow"] = face + 0.038 * side_way * scale, face - 0.038 * side_way * scale
    return made


def _unit(vectors: NDArray[np.floating]) -> Float32:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)).astype(np.float32)
