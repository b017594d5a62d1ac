"""What a body did, in numbers: the measurements the kinematic rules are written in.

A motion becomes `Measures`, with a `Side` for the left and the right limbs; each measure is computed where it is set.
"""

from __future__ import annotations

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
SWAY = 4.0
"""Deviation in frames of the Gaussian that takes the sway of each step from the pelvis' path: 0.2 s, half a step."""
FACING = 3.0
"""The same for the line through hips and shoulders, which turns to and fro with each step."""
NOISE = 1.0
"""The same for hands and feet: sensor noise of single frames goes, a wave or a kick stays."""
EDGE = 6
"""Frames at either end whose mean is "at the start" and "at the end": 0.3 s, a quarter of a clip at most."""
TOE = 0.05
"""How much lower a toe rests than an ankle at least, in metres: what a lifted ankle means for the foot."""
STEP = 12
"""Recorded floors tilt by centimetres over a walk: flight is measured from the lowest the feet were within so many
frames, 0.6 s, about a step."""
FLIGHT = 0.03
"""Both feet that much higher than that (metres) are off the floor: above the noise of the lowest point of a stance."""


class Measures:
    """What one motion did. Metres, seconds and degrees on a person scaled to LEG; left and up are positive.

    Args:
        motion: of the 22-joint HumanML3D skeleton; it is resampled to 20 fps.

    Raises:
        MotionGPT3Error: another skeleton, or fewer than 5 frames at 20 fps.

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

    def __init__(self, motion: Motion) -> None:
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
        self.seconds = len(joints) / FPS

        # Facing from the line through hips and shoulders, as HumanML3D defines it; its yaw grows to the left.
        across = (at["l_hip"] - at["r_hip"]) + (at["l_shoulder"] - at["r_shoulder"])
        across = averaged(across, gaussian(FACING), "held")
        yaw = np.unwrap(np.arctan2(-across[:, 2], across[:, 0]))
        edge = min(EDGE, len(yaw) // 4 + 1)
        first = float(yaw[:edge].mean())
        turned = np.degrees(yaw - first)
        self.turn = float(turned[-edge:].mean())
        self.turn_left, self.turn_right = float(turned.max()), float(-turned.min())

        # The pelvis sways with every step; its travel is the smoothed path.
        root = averaged(at["pelvis"], gaussian(SWAY), "held")
        velocity = _facing(np.gradient(root, 1 / FPS, axis=0), yaw)
        ground = np.hypot(velocity[:, 0], velocity[:, 2])
        travel = _facing((root[-1] - root[0])[None], np.array([first]))[0]
        self.forward, self.left = float(travel[2]), float(travel[0])
        self.forward_speed, self.left_speed = float(velocity[:, 2].mean()), float(velocity[:, 0].mean())
        self.speed, self.peak_speed = float(ground.mean()), float(np.percentile(ground, 90))
        self.roam = float(np.hypot(root[:, 0] - root[0, 0], root[:, 2] - root[0, 2]).max())
        lead = _facing(at["l_ankle"] - at["r_ankle"], yaw)
        self.stride = float(np.ptp(lead[:, 2]))

        # The floor is where the lowest joint nearly always rests.
        lowest = joints[:, :, 1].min(axis=1) * scale
        floor = float(np.percentile(lowest, 5))
        feet = [np.minimum(at[f"{s}_foot"][:, 1], at[f"{s}_ankle"][:, 1] - TOE) for s in "lr"]
        lower_foot = averaged(np.minimum(*feet), gaussian(NOISE), "held")
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(lower_foot, STEP, mode="edge"), 2 * STEP + 1)
        lower_foot -= windows.min(axis=-1)
        self.flight, self.clearance = float((lower_foot > FLIGHT).mean()), float(lower_foot.max())

        pelvis = at["pelvis"][:, 1] - floor
        bottom = int(pelvis.argmin())
        self.pelvis_start, self.pelvis_end = float(pelvis[:edge].mean()), float(pelvis[-edge:].mean())
        self.pelvis_low, self.pelvis_high = float(pelvis[bottom]), float(pelvis.max())
        self.head_end = float(at["head"][-edge:, 1].mean() - floor)
        trunk = _facing(at["neck"] - at["pelvis"], yaw)
        lean = np.degrees(np.arctan2(trunk[:, 2], trunk[:, 1]))
        self.lean, self.lean_end = float(lean.max()), float(lean[-edge:].mean())
        self.feet_ahead, self.feet_apart = float(lead[bottom, 2]), float(abs(lead[bottom, 0]))
        seat = _facing((at["l_ankle"] + at["r_ankle"]) / 2 - at["pelvis"], yaw)[bottom]
        self.seat, self.slant = float(seat[2]), float(-seat[0])
        self.left_side, self.right_side = (Side(at, s, yaw, floor, bottom) for s in "lr")


class Side:
    """One side of the body. Heights and distances in metres, angles in degrees; times are fractions of the clip.

    Args:
        at: joint name -> (T, 3).
        side: "l" or "r".
        yaw: (T,) facing of the body in radians to the left of +z.
        floor: its height.
        bottom: frame in which the pelvis is lowest.

    Attributes:
        sign: 1 for the left side, -1 for the right one.
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

    def __init__(self, at: dict[str, Float64], side: str, yaw: Float64, floor: float, bottom: int) -> None:
        shoulder, elbow, wrist, hip, knee, ankle = (
            at[f"{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        )
        self.sign = 1.0 if side == "l" else -1.0
        reach = _facing(wrist - shoulder, yaw) * np.array([self.sign, 1.0, 1.0])
        height = reach[:, 1]
        top = int(height.argmax())
        self.wrist_top, self.wrist_low = float(height[top]), float(height.min())
        self.wrist_typical = float(np.median(height))
        self.wrist_above_head = float((wrist - at["head"])[:, 1].max())
        self.wrist_floor = float(wrist[:, 1].min() - floor)
        raised = height > RAISED
        hand = averaged(reach, gaussian(NOISE), "held")
        self.raised = float(raised.mean())
        self.swings = max(
            (_reversals(hand[start:stop, axis], SWING) for start, stop in spans(raised) for axis in range(3)), default=0
        )
        self.reach_out, self.reach_forward = float(reach[:, 0].max()), float(reach[:, 2].max())
        self.reach_back = float(-reach[:, 2].min())
        farthest = int(np.hypot(reach[:, 0], reach[:, 2]).argmax())
        self.plane = float(np.degrees(np.arctan2(reach[farthest, 2], reach[farthest, 0])))
        self.elbow_at_top = float(_angle(shoulder, elbow, wrist)[top])
        self.elbow_to_knee = float(_distance(elbow, at["r_knee" if side == "l" else "l_knee"]).min())

        thigh = _facing(knee - hip, yaw)
        lift = np.degrees(np.arctan2(thigh[:, 2], -thigh[:, 1]))
        bend = _angle(hip, knee, ankle)
        self.thigh, self.knee_at_lift = float(lift.max()), float(bend[lift.argmax()])
        self.knee_at_bottom = float(bend[bottom])
        self.foot_top = float(ankle[:, 1].max() - floor)
        self.foot_forward = float(_facing(ankle - at["pelvis"], yaw)[:, 2].max())
        foot_path = averaged(ankle - at["pelvis"], gaussian(NOISE), "held")
        self.foot_speed = float(np.linalg.norm(np.gradient(foot_path, 1 / FPS, axis=0), axis=-1).max())


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
