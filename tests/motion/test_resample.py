"""Another frame rate: a smooth curve through the frames, with bones that keep their lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import invented, recorded
from hypothesis import given, settings
from hypothesis import strategies as st

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import bone_lengths, bone_vectors
from motiongpt3.motion.postprocess import postprocess
from motiongpt3.motion.resample import cubic, resampled


def swaying(frames: int, fps: float) -> Motion:
    """A figure with stiff limbs that leans and turns smoothly, sampled at any rate."""
    rest = invented(frames=1).joints[0].astype(np.float64)
    time = np.arange(frames) / fps
    lean, turn = 0.4 * np.sin(2 * np.pi * time), 0.7 * np.sin(1.3 * np.pi * time)
    flat = np.stack([np.cos(turn), 0 * turn, np.sin(turn), 0 * turn, 1 + 0 * turn, 0 * turn], -1).reshape(-1, 2, 3)
    back = np.stack([-np.sin(turn), 0 * turn, np.cos(turn)], -1)
    spin = np.concatenate([flat, back[:, None]], axis=1)
    tilt = np.zeros((frames, 3, 3))
    tilt[:, 0, 0] = 1
    tilt[:, 1, 1] = tilt[:, 2, 2] = np.cos(lean)
    tilt[:, 1, 2], tilt[:, 2, 1] = -np.sin(lean), np.sin(lean)
    joints = np.einsum("tij,tjk,nk->tni", spin, tilt, rest - rest[0])
    return Motion(joints + np.array([0, 1, 0]), fps)


def acceleration(motion: Motion) -> np.ndarray:
    return np.diff(motion.joints.astype(np.float64), n=2, axis=0) * motion.fps**2


@pytest.mark.parametrize("fps", [30, 47.3, 60])
def test_accelerations_are_those_of_the_curve(fps: float) -> None:
    coarse = swaying(60, 20)
    fine = resampled(coarse, fps)
    true, straight = swaying(len(fine), fps), coarse.resample(fps)
    middle = slice(10, -10)  # the ends of a natural spline are straight
    found, linear, wanted = (acceleration(m)[middle] for m in (fine, straight, true))
    assert fine.fps == fps
    assert len(fine) == len(straight)
    assert np.abs(found - wanted).mean() < 0.15 * np.abs(linear - wanted).mean()
    assert np.linalg.norm(fine.joints - true.joints, axis=-1).max() < 0.005


@pytest.mark.parametrize("fps", [7.5, 30, 60, 100])
def test_bones_keep_their_lengths_and_frames_stay(fps: float) -> None:
    motion = invented(3, 50, 20, 0.6)
    made = resampled(motion, fps)
    lengths = np.linalg.norm(bone_vectors(made.joints.astype(np.float64)), axis=-1)
    wanted = np.linalg.norm(bone_vectors(motion.joints.astype(np.float64)), axis=-1)[0]
    assert np.abs(lengths - wanted).max() < 1e-5
    assert np.ptp(np.linalg.norm(bone_vectors(motion.resample(30).joints), axis=-1), axis=0).max() > 1e-4, (
        "lines do not"
    )
    at = np.arange(len(made)) * 20 / fps
    same = np.abs(at - at.round()) < 1e-6
    assert same.sum() >= 7
    assert np.array_equal(made.joints[same], motion.joints[at[same].round().astype(int)])


def test_there_and_back_is_the_same() -> None:
    motion = invented(0, 40)
    assert resampled(resampled(motion, 60), 20) == motion
    assert resampled(motion, 20) is motion
    assert (motion.caption, motion.name) == (resampled(motion, 33).caption, resampled(motion, 33).name)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_shortest(frames: int) -> None:
    motion = invented(0, frames)
    for fps in (1, 20, 60):
        made = resampled(motion, fps)
        assert len(made) == len(motion.resample(fps))
        np.testing.assert_allclose(made.joints[0], motion.joints[0], atol=1e-5)
        np.testing.assert_allclose(bone_lengths(made.joints), bone_lengths(motion.joints)[[0] * len(made)], atol=1e-3)


def test_a_joint_on_its_parent() -> None:
    flat = Motion(np.zeros((5, 22, 3)))
    assert not resampled(flat, 60).joints.any()


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1001])
def test_no_frame_rate(fps: float) -> None:
    for change in (resampled, Motion.resample, lambda motion, fps: postprocess(motion, fps=fps)):
        with pytest.raises(MotionGPT3Error, match="fps must be"):
            change(invented(), fps)


def test_more_frames_than_a_motion_has() -> None:
    slow = invented(0, 50).replace(fps=1e-3)
    for change in (resampled, Motion.resample):
        with pytest.raises(MotionGPT3Error, match="more than 200000 frames"):
            change(slow, 1000.0)


def test_real_motions_are_smoother(mocap_dir: Path) -> None:
    for motion in recorded(mocap_dir, "test", 10):
        ours, straight = (
            np.abs(np.diff(m.joints, n=3, axis=0)).mean() for m in (resampled(motion, 60), motion.resample(60))
        )
        assert ours < 0.5 * straight, motion.name


def test_a_finished_loop_closes_at_any_rate(mocap_dir: Path) -> None:
    from motiongpt3.motion.postprocess import report

    for motion in recorded(mocap_dir, "test", 10):
        if motion.seconds >= 1.5:
            assert report(postprocess(motion, loop=True, fps=33))["loop_pose"] < 0.1, motion.name


@given(count=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_goes_through_the_samples(count: int, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(size=(count, 2, 3))
    assert np.allclose(cubic(samples, np.arange(count)), samples)


def test_it_follows_a_curve_and_has_no_kinks() -> None:
    samples = np.sin(np.arange(40) / 3)[:, None]
    at = np.linspace(6, 33, 500)
    curve = cubic(samples, at)
    assert np.abs(curve[:, 0] - np.sin(at / 3)).max() < 2e-4
    bend = np.diff(curve[:, 0], n=2) / (at[1] - at[0]) ** 2
    assert np.abs(np.diff(bend)).max() < 0.01, "the second derivative is continuous"
