"""Postprocessing: in place stays, smoothing keeps bones, options combine, and what changed is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import invented, recorded
from people import person

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.contacts import find_contacts, slides
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import bone_vectors, rotate
from motiongpt3.motion.postprocess import UNITS, changes, postprocess, report, smoothed, without_path
from motiongpt3.motion.quality import jitter


def lengths(motion: Motion) -> np.ndarray:
    return np.linalg.norm(bone_vectors(motion.joints.astype(np.float64)), axis=-1)


@pytest.mark.slow
def test_in_place_takes_the_way_and_keeps_the_steps(mocap_dir: Path) -> None:
    motion = recorded(mocap_dir, "test", 50)[20]
    there = without_path(motion)
    assert np.abs(there.joints[:, 0, [0, 2]]).max() < 0.25 < 2 < report(motion)["travel"]
    np.testing.assert_allclose(there.joints[..., 1], motion.joints[..., 1], atol=1e-5)
    np.testing.assert_allclose(lengths(there), lengths(motion), atol=1e-5)
    cycle = postprocess(motion, loop=True, in_place=True)
    assert np.abs(cycle.joints[-1] - cycle.joints[0]).max() < 0.02


@pytest.mark.parametrize("turn", [0.4, 2.4, -3.0, 6.3])
def test_a_turning_cycle_in_place_ends_as_it_began(turn: float) -> None:
    """A walk in an arc, by radians over the clip; what makes whole rounds goes on turning."""
    walk = person(80, speed=0.8).astype(np.float64)
    yaw = turn * np.linspace(0, 1, len(walk))[:, None]
    motion = Motion(rotate(walk - walk[:1, :1] * [1, 0, 1], yaw))
    cycle = postprocess(motion, loop=True, in_place=True)
    assert np.abs(cycle.joints[-1] - cycle.joints[0]).max() < 0.001
    np.testing.assert_allclose(lengths(cycle).mean(0), lengths(motion).mean(0), atol=0.002)


def test_in_place_leaves_a_squat_alone(mocap_dir: Path) -> None:
    motion = next(m for m in recorded(mocap_dir, "test", 50) if m.name and m.name.startswith("UIPRMD"))
    moved = without_path(motion).joints - motion.joints
    assert np.ptp(moved[:, 0], axis=0).max() < 0.05


@pytest.mark.parametrize("fps", [20, 60])
def test_smoothing_takes_a_tremor_and_keeps_ends_and_bones(fps: int) -> None:
    motion = invented(1, 3 * fps, fps, 0.5)
    noisy = motion.replace(joints=motion.joints + np.random.default_rng(0).normal(0, 0.005, motion.joints.shape))
    smooth = smoothed(noisy, 0.3)
    assert jitter(smooth) < 0.3 * jitter(noisy)
    np.testing.assert_allclose(lengths(smoothed(motion, 0.3)), lengths(motion), atol=1e-4)
    np.testing.assert_allclose(smooth.joints[[0, -1]], noisy.joints[[0, -1]], atol=1e-4)
    assert np.linalg.norm(smooth.joints - motion.joints, axis=-1).mean() < 0.006


def test_all_at_once(mocap_dir: Path) -> None:
    motion = recorded(mocap_dir, "test", 50)[20]
    made = postprocess(motion, fix_feet=True, in_place=True, loop=True, fps=30, smooth=0.1)
    assert made.fps == 30
    assert made.caption == motion.caption
    assert report(made)["travel"] < 0.02
    stood = postprocess(motion, fix_feet=True, loop=True)
    found = slides(stood, find_contacts(stood))
    assert np.median(found) < 0.01


def test_without_options_nothing_changes() -> None:
    motion = invented()
    assert postprocess(motion) is motion


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"smooth": -1.0}, "seconds in"), ({"smooth": float("nan")}, "seconds in"), ({"loop": True}, "at least 1 s"),
     ({"fps": 0.0}, "fps must be")],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(options: dict[str, float], reason: str) -> None:
    with pytest.raises(MotionGPT3Error, match=reason):
        postprocess(invented(frames=12), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_shortest_motions(frames: int) -> None:
    motion = invented(frames=frames)
    made = postprocess(motion, fix_feet=True, in_place=True, smooth=0.2, fps=30)
    assert np.isfinite(list(report(made).values())).all()
    assert (made.fps, len(made)) == (30, int(1.5 * (frames - 1)) + 1)
    np.testing.assert_allclose(lengths(made), np.broadcast_to(lengths(motion)[0], lengths(made).shape), atol=5e-3)


def test_each_motion_counts_once() -> None:
    before = [invented(frames=frames, wildness=0.3) for frames in (30, 60)]
    after = [postprocess(motion, in_place=True) for motion in before]
    found = changes(before, after)
    assert list(found) == list(UNITS)
    for name, both in found.items():
        for side, motions in (("before", before), ("after", after)):
            assert both[side] == np.mean([report(motion)[name] for motion in motions]), name
    assert found["skate_speed"]["before"] != found["skate_speed"]["after"]


def test_one_frame_has_measures() -> None:
    motion = invented(frames=1)
    for both in changes([motion], [motion]).values():
        assert both["before"] == both["after"]
        assert np.isfinite(both["after"])
