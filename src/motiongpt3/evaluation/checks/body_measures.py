"""What a body did, in numbers: the measurements the kinematic rules are written in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation import FPS
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.signals import averaged, gaussian, spans
from motiongpt3.motion.skeleton import HUMANML3D, Float64

LEG = 0.826
"""Thigh plus shin of the HumanML3D skeleton in metres: everyone is scaled to it, so that lengths compare."""
RAISED = -0.15
"""A hand counts as raised while its wrist is less than this far below the shoulder (metres): from the chest up."""
SWING = 0.03
"""A raised hand swings back when it comes back by this much (metres): more than sensor noise, less than a wave."""


@dataclass(frozen=True)
class Side:
    """One side of the body. Heights and distances in metres, angles in degrees; times are fractions of the clip.

    Attributes:
        wrist_top, wrist_low: highest and lowest height of the wrist above the shoulder.
        wrist_typical: the median of it.
        wrist_above_head: highest height of the wrist above the head joint.
        wrist_floor: lowest height of the wrist above the floor.
        raised: fraction of the clip with the hand raised (see RAISED).
        swings: most reversals of direction by more than SWING within one raise of the hand, in its liveliest direction;
            raising and lowering it is one.
        reach_out, reach_forward, reach_back: where the wrist is, relative to the shoulder and the body's facing, at its
            farthest to its own side, to the front, to the back (the last is positive backward).
        plane: direction of the wrist when it is farthest from the shoulder's vertical: 0 sideways, 90 straight ahead.
        elbow_at_top: elbow angle when the wrist is highest; 180 is straight.
        elbow_to_knee: least distance from this elbow to the other side's knee.
        thigh: largest forward lift of the thigh from straight down; 90 is level.
        knee_at_lift: knee angle when the thigh is lifted most; 180 is straight.
        knee_at_bottom: knee angle when the pelvis is lowest.
        foot_top: highest height of the ankle above the floor.
        foot_forward: farthest reach of the ankle in front of the pelvis.
        foot_speed: the ankle's largest speed relative to the pelvis, m/s.
    """

    wrist_top: float
    wrist_low: float
    wrist_typical: float
    wrist_above_head: float
    wrist_floor: float
    raised: float
    swings: int
    reach_out: float
    reach_forward: float
    reach_back: float
    plane: float
    elbow_at_top: float
    elbow_to_knee: float
    thigh: float
    knee_at_lift: float
    knee_at_bottom: float
    foot_top: float
    foot_forward: float
    foot_speed: float


@dataclass(frozen=True)
class Measures:
    """What one motion did. Metres, seconds and degrees on a person scaled to LEG; left and up are positive.

    Attributes:
        seconds: duration.
        turn: facing at the end minus facing at the start; positive to the left.
        turn_left, turn_right: farthest turn from the first facing to either side, both >= 0.
        forward, left: displacement of the pelvis along and across the first facing.
        forward_speed, left_speed: mean velocity of the pelvis along and across the momentary facing, m/s.
        speed, peak_speed: mean and 90th percentile of the pelvis' ground speed, m/s.
        roam: farthest ground distance of the pelvis from where it started.
        stride: range of the left ankle's lead over the right one, along the facing.
        flight: fraction of frames with both feet more than 3 cm higher than the lower one was within 0.6 s.
        clearance: greatest height of the lower foot above where it was within 0.6 s.
        pelvis_start, pelvis_end, pelvis_low, pelvis_high: height of the pelvis above the floor.
        head_end: height of the head above the floor at the end.
        lean, lean_end: largest and last forward lean of the trunk from upright.
        feet_ahead: lead of the left ankle over the right one when the pelvis is lowest.
        feet_apart: sideways distance between the ankles at that moment.
        seat: how far the pelvis is behind the ankles' midpoint at that moment.
        slant: how far the pelvis is shifted to the left of the ankles' midpoint at that moment.
        left_side, right_side: the limbs.
    """

    seconds: float
    turn: float
    turn_left: float
    turn_right: float
    forward: float
    left: float
    forward_speed: float
    left_speed: float
    speed: float
    peak_speed: float
    roam: float
    stride: float
    flight: float
    clearance: float
    pelvis_start: float
    pelvis_end: float
    pelvis_low: float
    pelvis_high: float
    head_end: float
    lean: float
    lean_end: float
    feet_ahead: float
    feet_apart: float
    seat: float
    slant: float
    left_side: Side
    right_side: Side


def measure_body(motion: Motion) -> Measures:
    """Measure a motion of the 22-joint HumanML3D skeleton, resampled to 20 fps.

    Raises:
        MotionGPT3Error: another skeleton, or fewer than 5 frames at 20 fps.
    """
    if motion.skeleton.names != HUMANML3D.names:
        raise MotionGPT3Error("kinematic rules need the 22 HumanML3D joints; retarget the motion first")
    joints = motion.resample(FPS).joints.astype(np.float64)
    if len(joints) < 5:
        raise MotionGPT3Error(f"a motion of {motion.seconds:.2f} s is too short to judge; 0.25 s at least")
    at = {name: joints[:, i] for i, name in enumerate(HUMANML3D.names)}
    bones = (("hip", "knee"), ("knee", "ankle"))
    leg = sum(float(_distance(at[f"{s}_{a}"], at[f"{s}_{b}"]).mean()) for s in "lr" for a, b in bones) / 2
    scale = LEG / max(leg, 1e-3)
    at = {name: positions * scale for name, positions in at.items()}

    # Facing from the line through hips and shoulders, as HumanML3D defines it; its yaw grows to the left.
    across = (at["l_hip"] - at["r_hip"]) + (at["l_shoulder"] - at["r_shoulder"])
    across = averaged(across, gaussian(3.0), "held")
    yaw = np.unwrap(np.arctan2(-across[:, 2], across[:, 0]))
    edge = min(6, len(yaw) // 4 + 1)
    first = float(yaw[:edge].mean())
    turned = np.degrees(yaw - first)

    # The pelvis sways with every step; its travel is the smoothed path.
    root = averaged(at["pelvis"], gaussian(4.0), "held")
    velocity = _facing(np.gradient(root, 1 / FPS, axis=0), yaw)
    ground = np.hypot(velocity[:, 0], velocity[:, 2])
    travel = _facing((root[-1] - root[0])[None], np.array([first]))[0]

    # The floor is where the lowest joint nearly always rests; a toe rests a few centimetres lower than an ankle.
    # Recorded floors tilt by centimetres over a walk, so flight is measured from the lowest the feet were within 0.6 s.
    lowest = joints[:, :, 1].min(axis=1) * scale
    floor = float(np.percentile(lowest, 5))
    feet = [np.minimum(at[f"{s}_foot"][:, 1], at[f"{s}_ankle"][:, 1] - 0.05) for s in "lr"]
    lower_foot = averaged(np.minimum(*feet), gaussian(1.0), "held")
    lower_foot -= _rolling_minimum(lower_foot, 12)
    pelvis = at["pelvis"][:, 1] - floor
    bottom = int(pelvis.argmin())
    trunk = _facing(at["neck"] - at["pelvis"], yaw)
    lean = np.degrees(np.arctan2(trunk[:, 2], trunk[:, 1]))
    lead = _facing(at["l_ankle"] - at["r_ankle"], yaw)
    seat = _facing((at["l_ankle"] + at["r_ankle"]) / 2 - at["pelvis"], yaw)[bottom]
    return Measures(
        seconds=len(joints) / FPS,
        turn=float(turned[-edge:].mean()),
        turn_left=float(turned.max()),
        turn_right=float(-turned.min()),
        forward=float(travel[2]),
        left=float(travel[0]),
        forward_speed=float(velocity[:, 2].mean()),
        left_speed=float(velocity[:, 0].mean()),
        speed=float(ground.mean()),
        peak_speed=float(np.percentile(ground, 90)),
        roam=float(np.hypot(root[:, 0] - root[0, 0], root[:, 2] - root[0, 2]).max()),
        stride=float(np.ptp(lead[:, 2])),
        flight=float((lower_foot > 0.03).mean()),
        clearance=float(lower_foot.max()),
        pelvis_start=float(pelvis[:edge].mean()),
        pelvis_end=float(pelvis[-edge:].mean()),
        pelvis_low=float(pelvis[bottom]),
        pelvis_high=float(pelvis.max()),
        head_end=float(at["head"][-edge:, 1].mean() - floor),
        lean=float(lean.max()),
        lean_end=float(lean[-edge:].mean()),
        feet_ahead=float(lead[bottom, 2]),
        feet_apart=float(abs(lead[bottom, 0])),
        seat=float(seat[2]),
        slant=float(-seat[0]),
        left_side=_side(at, "l", yaw, floor, bottom),
        right_side=_side(at, "r", yaw, floor, bottom),
    )


def _side(at: dict[str, Float64], s: str, yaw: Float64, floor: float, bottom: int) -> Side:
    """The measurements of the left ("l") or right ("r") limbs. `at`: joint name -> (T, 3)."""
    out = 1.0 if s == "l" else -1.0
    other = "r" if s == "l" else "l"
    wrist = _facing(at[f"{s}_wrist"] - at[f"{s}_shoulder"], yaw) * np.array([out, 1.0, 1.0])
    height = wrist[:, 1]
    top = int(height.argmax())
    raised = height > RAISED
    hand = averaged(wrist, gaussian(1.0), "held")
    swings = max(
        (_reversals(hand[start:stop, axis], SWING) for start, stop in spans(raised) for axis in range(3)), default=0
    )
    farthest = int(np.hypot(wrist[:, 0], wrist[:, 2]).argmax())
    elbow = _angle(at[f"{s}_shoulder"], at[f"{s}_elbow"], at[f"{s}_wrist"])
    knee = _angle(at[f"{s}_hip"], at[f"{s}_knee"], at[f"{s}_ankle"])
    thigh = _facing(at[f"{s}_knee"] - at[f"{s}_hip"], yaw)
    lift = np.degrees(np.arctan2(thigh[:, 2], -thigh[:, 1]))
    foot = _facing(at[f"{s}_ankle"] - at["pelvis"], yaw)
    foot_velocity = np.gradient(averaged(at[f"{s}_ankle"] - at["pelvis"], gaussian(1.0), "held"), 1 / FPS, axis=0)
    return Side(
        wrist_top=float(height[top]),
        wrist_low=float(height.min()),
        wrist_typical=float(np.median(height)),
        wrist_above_head=float((at[f"{s}_wrist"] - at["head"])[:, 1].max()),
        wrist_floor=float(at[f"{s}_wrist"][:, 1].min() - floor),
        raised=float(raised.mean()),
        swings=swings,
        reach_out=float(wrist[:, 0].max()),
        reach_forward=float(wrist[:, 2].max()),
        reach_back=float(-wrist[:, 2].min()),
        plane=float(np.degrees(np.arctan2(wrist[farthest, 2], wrist[farthest, 0]))),
        elbow_at_top=float(elbow[top]),
        elbow_to_knee=float(_distance(at[f"{s}_elbow"], at[f"{other}_knee"]).min()),
        thigh=float(lift.max()),
        knee_at_lift=float(knee[lift.argmax()]),
        knee_at_bottom=float(knee[bottom]),
        foot_top=float(at[f"{s}_ankle"][:, 1].max() - floor),
        foot_forward=float(foot[:, 2].max()),
        foot_speed=float(np.linalg.norm(foot_velocity, axis=-1).max()),
    )


def _distance(a: Float64, b: Float64) -> Float64:
    """(T, 3), (T, 3) -> (T,) distances."""
    return np.asarray(np.linalg.norm(a - b, axis=-1))


def _angle(a: Float64, b: Float64, c: Float64) -> Float64:
    """(T, 3) three times -> (T,) angle at b in degrees; 180 when a, b, c lie in a line."""
    u, v = a - b, c - b
    cosine = (u * v).sum(-1) / np.maximum(np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1), 1e-9)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _facing(vectors: Float64, yaw: Float64) -> Float64:
    """(T, 3) world vectors as (left, up, forward) of a body that faces `yaw` (T,) radians to the left of +z."""
    sine, cosine = np.sin(yaw), np.cos(yaw)
    x, y, z = vectors.T
    return np.stack([x * cosine - z * sine, y, x * sine + z * cosine], axis=-1)


def _rolling_minimum(track: Float64, radius: int) -> Float64:
    """(T,) -> (T,) least value within `radius` frames."""
    padded = np.pad(track, radius, mode="edge")
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1).min(axis=-1))


def _reversals(track: Float64, least: float) -> int:
    """How often a (T,) track turns round, counting only turns after it moved and before it moves by `least`."""
    count, direction = 0, 0
    low = high = float(track[0])
    for value in track.tolist():
        low, high = min(low, value), max(high, value)
        if direction <= 0 and value - low >= least:
            count += direction < 0
            direction, high = 1, value
        elif direction >= 0 and high - value >= least:
            count += direction > 0
            direction, low = -1, value
    return count
