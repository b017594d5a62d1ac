"""The physical measures say what their docstrings say, on made-up and on captured motion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion import quality
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D

TOES = list(HUMANML3D.contacts[1::2])


def standing(frames: int = 40, fps: float = 20.0) -> Motion:
    pose = np.zeros((22, 3), dtype=np.float32)
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[:, 1] -= pose[:, 1].min()
    return Motion(np.repeat(pose[None], frames, axis=0), fps=fps)


def moved(motion: Motion, steps: NDArray[np.floating], joints: object = slice(None)) -> Motion:
    changed = motion.joints.copy()
    changed[:, joints] += np.asarray(steps, dtype=np.float32)[:, None]
    return motion.replace(joints=changed)


def line(frames: int, fps: float, velocity: tuple[float, float, float]) -> NDArray[np.float64]:
    return np.arange(frames)[:, None] / fps * np.asarray(velocity)


def wobble(seed: int, frames: int = 40) -> Motion:
    steps = np.random.default_rng(seed).normal(0, 0.02, (frames, 22, 3)).cumsum(axis=0)
    return standing(frames).replace(joints=standing(frames).joints + steps)


def test_a_statue_is_perfect() -> None:
    assert set(quality.measure(standing()).as_dict().values()) == {0.0}


@pytest.mark.parametrize("fps", [20.0, 30.0, 120.0])
def test_gliding_is_skating_at_that_speed(fps: float) -> None:
    frames = int(2 * fps)
    result = quality.measure(moved(standing(frames, fps), line(frames, fps, (0.6, 0, 0.8))))
    assert result.skate_speed == pytest.approx(100, rel=1e-3)
    assert result.slip_speed == pytest.approx(100, rel=1e-3)
    assert result.max_speed == pytest.approx(1, rel=1e-3)
    assert result.skate_ratio > 0.9
    assert result.floating == 0


def test_one_planted_foot_does_not_slip_whatever_the_rest_does() -> None:
    others = [joint for joint in range(22) if joint != TOES[0]]
    motion = moved(standing(), line(40, 20, (1.0, 0.0, 0.0)), others)
    assert quality.slip_speed(motion) == 0
    assert 40 < quality.skate_speed(motion) < 60


def test_a_foot_in_the_air_does_not_skate() -> None:
    lifted = moved(standing(), np.tile([0, 0.2, 0], (40, 1)))
    motion = moved(lifted, line(40, 20, (2.0, 0.0, 0.0)))
    assert quality.skate_ratio(motion) == quality.skate_speed(motion) == quality.slip_speed(motion) == 0


def test_skate_ratio_counts_the_frames_that_skate() -> None:
    steps = np.zeros((101, 3))
    steps[41:61, 0] = np.arange(1, 21) * 0.1
    steps[61:, 0] = 2.0
    assert quality.skate_ratio(moved(standing(101), steps)) == pytest.approx(0.20, abs=0.011)


def test_penetration_in_millimetres() -> None:
    steps = np.zeros((40, 3))
    steps[10:20, 1] = -0.03
    result = quality.measure(moved(standing(), steps))
    assert result.penetration_max == pytest.approx(30, abs=0.01)
    assert result.penetration_mean == pytest.approx(7.5, abs=0.01)
    assert quality.penetration(moved(standing(), steps), floor=-0.05).max() == 0


def test_hovering_floats_and_jumping_does_not() -> None:
    hover = np.zeros((60, 3))
    hover[10:50, 1] = 0.3
    assert 0.5 < quality.floating(moved(standing(60), hover)) <= 40 / 60
    time = np.arange(60) / 60
    flight = np.maximum(0, 2.9 * (time - 0.2) - 9.81 / 2 * (time - 0.2) ** 2) * (time > 0.2)
    jump = moved(standing(60, 60.0), flight[:, None] * [0, 1, 0])
    assert jump.joints[:, TOES, 1].max() > 0.4
    assert quality.floating(jump) < 0.05


def test_jitter_of_a_cubic_is_its_third_derivative() -> None:
    time = np.arange(40) / 20
    motion = moved(standing(), (2.0 * time**3)[:, None] * [0, 0, 1])
    assert quality.jitter(motion) == pytest.approx(12, rel=1e-2)
    assert quality.jitter(moved(standing(), line(40, 20, (1, 2, 3)))) < 0.1


@given(st.integers(0, 1000), st.floats(0.002, 0.02))
def test_noise_raises_jitter_and_bone_variation(seed: int, size: float) -> None:
    clean = standing()
    noise = np.random.default_rng(seed).normal(0, size, clean.joints.shape)
    little, much = (clean.replace(joints=clean.joints + factor * noise) for factor in (1, 2))
    assert 0 < quality.jitter(little) < quality.jitter(much)
    assert 0 < quality.bone_variation(little) < quality.bone_variation(much)


@pytest.mark.slow
@given(st.integers(0, 1000), st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 6.28))
def test_place_and_heading_do_not_matter(seed: int, x: float, z: float, angle: float) -> None:
    motion = wobble(seed)
    sin, cos = np.sin(angle), np.cos(angle)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    other = motion.replace(joints=motion.joints @ turn.T + [x, 0, z])
    expected, found = quality.measure(motion).as_dict(), quality.measure(other).as_dict()
    # Third differences of float32 positions 20 m out carry the rounding, and a frame may lie at a threshold.
    for name, value in expected.items():
        frame = 1.5 / len(motion) if quality.UNITS[name] == "of frames" else 0.0
        assert found[name] == pytest.approx(value, rel=2e-2, abs=1e-2 + frame), name


def test_seam_jerk_looks_only_near_the_seam() -> None:
    steps = np.zeros((60, 3))
    steps[30:, 0] = 0.1
    motion = moved(standing(60), steps)
    assert quality.seam_jerk(motion, [30]) == pytest.approx(0.1 * 2 * 20**3, rel=1e-3)
    assert quality.seam_jerk(motion, [30], within=0) == pytest.approx(0.1 * 2 * 20**3, rel=1e-3)
    assert quality.seam_jerk(motion, [10, 50]) == 0
    assert quality.seam_jerk(motion, []) == 0
    for outside in (0, 60, -3):
        with pytest.raises(MotionGPT3Error, match="seam"):
            quality.seam_jerk(motion, [outside])


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_short_motions_have_numbers(frames: int) -> None:
    result = quality.measure(moved(standing(frames), line(frames, 20, (1, 1, 1))))
    assert np.isfinite(list(result.as_dict().values())).all()
    assert result.max_speed == pytest.approx(3**0.5 if frames > 1 else 0, rel=1e-3)
    assert result.bone_variation == pytest.approx(0, abs=1e-3)
    assert result.jitter == pytest.approx(0, abs=0.1)
    assert result.penetration_max == 0


def test_summary_is_the_mean_over_motions() -> None:
    still, gliding = standing(40), moved(standing(80), line(80, 20, (1, 0, 0)))
    mean = quality.summary([quality.measure(still), quality.measure(gliding)])
    assert mean.slip_speed == pytest.approx(50, rel=1e-3)
    with pytest.raises(MotionGPT3Error, match="no motions"):
        quality.summary([])


@pytest.mark.slow
def test_captured_motion_is_better_than_spoiled(mocap_dir: Path) -> None:
    clips = [json.loads(row) for row in (mocap_dir / "clips.jsonl").read_text().splitlines()]
    clips = [c for c in clips if c["split"] == "test" and c["short"] == "walk forward"][:10]
    store = np.load(mocap_dir / "joints.npz")
    root, offsets, unit = store["root"], store["offsets"], float(store["metres_per_unit"])
    walks = []
    for clip in clips:
        rows = slice(clip["offset"], clip["offset"] + clip["frames"])
        walks.append(Motion(root[rows, None] + offsets[rows] * unit, fps=20.0))
    real = quality.summary(map(quality.measure, walks))
    assert real.slip_speed < 20
    assert real.penetration_max < 20
    assert real.bone_variation < 0.5
    in_place = [walk.replace(joints=walk.joints - walk.joints[:, :1] * [1, 0, 1]) for walk in walks]
    assert quality.summary(map(quality.measure, in_place)).slip_speed > 3 * real.slip_speed
