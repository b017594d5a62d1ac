"""The model that ships inside the package does what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motiongpt3 import Motion, MotionGPT3
from motiongpt3.evaluation.checks.kinematic_rules import judge
from motiongpt3.motion.quality import measure
from motiongpt3.motion.skeleton import HUMANML3D


@pytest.fixture(scope="module")
def mini() -> MotionGPT3:
    return MotionGPT3.from_pretrained()


@pytest.mark.parametrize(
    ("prompt", "action"),
    [
        ("a person walks forward", "walk forward"),
        ("a person runs forward", "run forward"),
        ("a person walks backward", "walk backward"),
        ("a person squats down and stands up again", "squat"),
        ("someone raises the left hand", "raise left hand"),
        ("someone raises the right hand", "raise right hand"),
        ("somebody strolls ahead", "walk forward"),
        ("go for a quick jog", "run forward"),
    ],
)
def test_motions_do_what_the_prompt_says(mini: MotionGPT3, prompt: str, action: str) -> None:
    motions = mini.generate(prompt, seconds=4, samples=4, seed=100)
    assert sum(judge(motion, action) for motion in motions) >= 3
    other = "squat" if "forward" in action else "run forward"
    assert not any(judge(motion, other) for motion in motions)


@pytest.mark.parametrize("seconds", [0.05, 0.33, 1.0, 2.5, 3.95, 10.0])
def test_duration_is_exact_to_one_frame(mini: MotionGPT3, seconds: float) -> None:
    motion = mini.generate("a person walks forward", seconds=seconds)
    assert abs(len(motion) - seconds * 20) <= 1
    assert motion.fps == 20


def test_motions_are_physically_plausible(mini: MotionGPT3) -> None:
    motions = mini.generate(["a person walks forward", "a person waves the right hand"], seconds=4, samples=2)
    for motion in motions:
        quality = measure(motion)
        assert quality.jitter < 200  # recorded clips: 60 on average, 90 for walks
        assert quality.penetration_max < 60
        bones = np.linalg.norm(motion.joints[:, 1:] - motion.joints[:, HUMANML3D.parents[1:]], axis=-1)
        np.testing.assert_allclose(bones, np.broadcast_to(HUMANML3D.bone_lengths[1:], bones.shape), atol=1e-3)
        assert motion.joints[0, 0, [0, 2]] == pytest.approx([0, 0], abs=1e-3)


@pytest.mark.slow
def test_a_batch_changes_nothing(mini: MotionGPT3) -> None:
    together = mini.generate(["a person jumps", "somebody sits down and gets up again"], seconds=3, samples=2, seed=7)
    alone = mini.generate("somebody sits down and gets up again", seconds=3, seed=8)
    assert together[3].caption == alone.caption
    np.testing.assert_allclose(together[3].joints, alone.joints, atol=1e-3)


@pytest.mark.slow
def test_the_whole_way_to_a_file_and_back(mini: MotionGPT3, tmp_path: Path) -> None:
    motion = mini.generate("a person kicks with the left leg", seconds=2)
    again = mini.generate("a person kicks with the left leg", seconds=2)
    assert motion == again
    read = Motion.load(motion.save(tmp_path / "kick.bvh"))
    np.testing.assert_allclose(read.joints, motion.joints, atol=2e-3)
