"""The rules agree with real clips, exclude what they should, and do not care where or how tall a person is."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.checks.body_measures import Measures
from motiongpt3.evaluation.checks.kinematic_rules import RULES, judge
from motiongpt3.evaluation.checks.prompt_check import real_clips, validate_rules
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D

# Semantically an action of the first kind may well contain one of the second, so neither is a mistake.
ALSO = {
    "wave left hand": {"wave"}, "wave right hand": {"wave"}, "wave both hands": {"wave"},
    "wave": {"wave left hand", "wave right hand", "wave both hands"},
    "raise left arm sideways": {"raise left hand"}, "raise right arm sideways": {"raise right hand"},
    "raise left arm diagonally": {"raise left hand"}, "raise right arm diagonally": {"raise right hand"},
    "jump": {"jump forward"}, "jump forward": {"jump"},
}  # fmt: skip


@pytest.fixture(scope="module")
def clips(mocap_dir: Path) -> list[tuple[Motion, str, str]]:
    """Real clips of the checked actions with label and split: all of val and test, of train 15 an action at most."""
    with np.load(mocap_dir / "joints.npz") as file:
        root, offsets, unit = file["root"], file["offsets"], float(file["metres_per_unit"])
    patterns = real_clips()
    taken: dict[str, int] = defaultdict(int)
    chosen = []
    for line in (mocap_dir / "clips.jsonl").read_text().splitlines():
        clip = json.loads(line)
        actions = [action for action, pattern in patterns.items() if pattern.search(clip["short"])]
        if not actions or (clip["split"] == "train" and min(taken[action] for action in actions) >= 15):
            continue
        if clip["split"] == "train":
            for action in actions:
                taken[action] += 1
        rows = slice(clip["offset"], clip["offset"] + clip["frames"])
        joints = root[rows, None] + offsets[rows] * np.float32(unit)
        chosen.append((Motion(joints, name=clip["id"]), clip["short"], clip["split"]))
    return chosen


def standing(frames: int = 80) -> Motion:
    """A person in the rest pose, arms down, who does nothing."""
    joints = np.zeros((22, 3), dtype=np.float32)
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            joints[joint] = joints[parent] + HUMANML3D.rest_offsets[joint]
    joints[:, 1] -= joints[:, 1].min()
    return Motion(np.repeat(joints[None], frames, axis=0))


@pytest.mark.slow
def test_rules_say_yes_to_real_clips_and_seldom_to_others(clips: list[tuple[Motion, str, str]]) -> None:
    report = validate_rules((motion, label) for motion, label, _ in clips)
    assert set(report.actions) == set(RULES) - {"kick right"}
    weak = {action: yes for action, yes in report.yes.items() if yes < 0.85}
    assert not weak, f"rules say yes to too few real clips:\n{report.table()}"
    for j, action in enumerate(report.actions):
        for i, other in enumerate(report.actions):
            if i != j and action not in ALSO.get(other, ()):
                assert report.rates[i, j] <= 0.45, f"{action} is seen in {other}"
    assert max(report.false_yes.values()) < 0.12


@pytest.mark.slow
def test_held_out_clips_pass_too(clips: list[tuple[Motion, str, str]]) -> None:
    report = validate_rules((motion, label) for motion, label, split in clips if split != "train")
    for action, count in zip(report.actions, report.clips, strict=True):
        if count >= 5:
            assert report.yes[action] >= 0.85, action


@pytest.mark.slow
def test_left_and_right_are_mirror_images(clips: list[tuple[Motion, str, str]]) -> None:
    pairs = [(name, name.replace("left", "right")) for name in RULES if "left" in name]
    assert all(right in RULES for _, right in pairs)
    for motion, _, _ in clips[::10]:
        body, mirrored = Measures(motion), Measures(motion.mirror())
        for left, right in pairs:
            assert RULES[left](body) == RULES[right](mirrored)
            assert RULES[right](body) == RULES[left](mirrored)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_place_direction_and_height_change_nothing(clips: list[tuple[Motion, str, str]], data: st.DataObject) -> None:
    motion, _, _ = clips[data.draw(st.integers(0, len(clips) - 1))]
    angle = data.draw(st.floats(-np.pi, np.pi))
    scale = data.draw(st.floats(0.95, 1.05))
    shift = np.array([data.draw(st.floats(-5, 5)), data.draw(st.floats(-1, 1)), data.draw(st.floats(-5, 5))])
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    moved = Measures(motion.replace(joints=motion.joints @ turn.T * scale + shift))
    body = Measures(motion)
    for name in ("turn", "forward", "left_speed", "pelvis_low", "clearance", "lean", "stride", "roam"):
        assert getattr(moved, name) == pytest.approx(getattr(body, name), abs=0.02 if name != "turn" else 0.2), name
    assert moved.left_side.wrist_top == pytest.approx(body.left_side.wrist_top, abs=1e-3)
    assert moved.right_side.thigh == pytest.approx(body.right_side.thigh, abs=0.2)


@pytest.mark.slow
def test_doing_nothing_or_gliding_is_no_action() -> None:
    still = standing()
    assert [name for name in RULES if judge(still, name)] == []
    time = np.arange(80, dtype=np.float32)[:, None, None] / 20
    for velocity in ([0, 0, 1.2], [0, 0, -1.0], [0, 0, 3.0], [0, 0.3, 0]):
        glide = still.replace(joints=still.joints + time * np.array(velocity, dtype=np.float32))
        assert [name for name in RULES if judge(glide, name)] == [], velocity


def test_a_wave_is_not_a_walk_nor_a_raised_hand() -> None:
    still = standing()
    joints = still.joints.copy()
    time = np.arange(80) / 20
    up = np.clip(time / 0.5, 0, 1)
    shoulder, elbow, wrist = (HUMANML3D.index(f"r_{name}") for name in ("shoulder", "elbow", "wrist"))
    joints[:, elbow] = joints[:, shoulder] + np.array([-0.25, -0.05, 0.0])
    joints[:, wrist, 1] = joints[:, elbow, 1] + 0.5 * up - 0.25
    joints[:, wrist, 0] = joints[:, elbow, 0]
    assert judge(still.replace(joints=joints), "raise right hand")
    joints[:, wrist, 0] += np.where(time > 0.5, 0.08 * np.sin(2 * np.pi * 1.5 * time), 0)
    waving = still.replace(joints=joints)
    assert [name for name in RULES if judge(waving, name)] == ["wave right hand", "wave"]
    assert [name for name in RULES if judge(waving.mirror(), name)] == ["wave left hand", "wave"]
    walking = waving.replace(joints=joints + time[:, None, None] * np.array([0, 0, 0.8]))
    assert not any(judge(walking, name) for name in ("wave", "wave right hand", "walk forward"))


def test_frame_rate_does_not_matter() -> None:
    still = standing(240).replace(fps=60.0)
    joints = still.joints.copy()
    # Hips down by 0.45 m and up again, knees forward so that thighs and shins keep their lengths.
    drop = 0.45 * np.sin(np.pi * np.clip((np.arange(240) / 60 - 0.5) / 3, 0, 1))[:, None]
    joints[:, [0, 1, 2, 3, 6, 9, *range(12, 22)], 1] -= drop
    half = joints[:, [1, 2], 1] / 2
    joints[:, [4, 5], 1] = half
    joints[:, [4, 5], 2] = np.sqrt(np.maximum(0.413**2 - half**2, 0))
    assert judge(still.replace(joints=joints), "squat")
    assert judge(still.replace(joints=joints).resample(20), "squat")


def test_bad_motions_get_one_line() -> None:
    with pytest.raises(MotionGPT3Error, match="too short"):
        Measures(standing(3))
    with pytest.raises(KeyError):
        judge(standing(), "levitate")
