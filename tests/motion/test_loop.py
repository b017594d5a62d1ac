"""Cycles: the one that is there is found, the last pose is the first, and what speeds up evenly has no kink."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import invented, recorded

from motiongpt3.motion.loop import kinks, loop
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.postprocess import postprocess, report


def lengths(motion: Motion) -> np.ndarray:
    return np.linalg.norm(bone_vectors(motion.joints.astype(np.float64)), axis=-1)


def largest_change(motion: Motion) -> float:
    """The largest change of a joint's velocity between two frames, m/s."""
    return float(np.linalg.norm(np.diff(motion.joints, n=2, axis=0), axis=-1).max()) * motion.fps


@pytest.mark.slow
@pytest.mark.parametrize("fix_feet", [False, True])
def test_loops_of_real_motions(mocap_dir: Path, fix_feet: bool) -> None:
    """The last pose is the first, and to begin again is no harder a change of speed than those in a lively motion."""
    for motion in recorded(mocap_dir, "test", 20):
        if motion.seconds < 1.5:
            continue
        cycle = postprocess(motion, loop=True, fix_feet=fix_feet)
        facts = report(cycle)
        assert facts["loop_pose"] < 0.1, motion.name
        assert facts["loop_speed"] < max(1.0, 1.1 * largest_change(motion)), motion.name
        assert facts["loop_kink"] <= max(0.3, 1.1 * kinks(cycle.joints[:-1].astype(float)).max() * 20), motion.name
        assert 0.5 * motion.fps < len(cycle) <= len(motion)
        assert np.ptp(lengths(cycle), axis=0).max() < 0.02, "bones keep their lengths"


def test_a_loop_that_is_there_is_found() -> None:
    """A figure that swings with a period of 1 s for 3.3 s: the cycle has whole periods."""
    rest = invented(frames=1, wildness=0.2).joints[0].astype(np.float64)
    time = np.arange(66) / 20
    joints = np.repeat(rest[None], 66, axis=0)
    joints[:, 3:] += 0.2 * np.sin(2 * np.pi * time)[:, None, None] * [1, 0, 0]
    cycle = loop(Motion(joints))
    assert (len(cycle) - 1) % 20 == 0


def test_what_speeds_up_evenly_has_no_kink() -> None:
    time = np.arange(9.0)
    path = np.stack([time**2, time**3, 0 * time], axis=-1)[:, None]
    assert kinks(path).max() < 1e-9
    path[5:] += 0.5 * (time[5:] - 4)[:, None, None] * [0, 0, 1]
    assert kinks(path).argmax() == 2
    assert abs(kinks(path).max() - 0.5) < 1e-9
