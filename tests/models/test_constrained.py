"""Drawing with constraints: they hold, in any company, and the report tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motiongpt3 import MotionGPT3, MotionGPT3Error
from motiongpt3 import constraints as c
from motiongpt3.control.report import ConstrainedMotion


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> MotionGPT3:
    return MotionGPT3.from_pretrained(tiny_model_dir)


PATH = c.RootPath(seconds=[0, 1, 2], xz=[[0, 0], [0.1, 0.5], [0.5, 0.9]])


def test_constraints_hold_in_what_is_generated(model: MotionGPT3) -> None:
    pose = model.generate("a person walks", seconds=2, seed=3)[20]
    motion = model.generate("a person walks", seconds=2, constraints=[PATH, c.Keyframe(pose, seconds=1, placed=False)])
    assert isinstance(motion, ConstrainedMotion)
    np.testing.assert_allclose(motion.joints[[0, 20, 39], 0][:, [0, 2]], PATH.xz, atol=1e-5)
    report = motion.constraint_report
    assert [one.kind for one in report.constraints] == ["root", "keyframe"]
    assert all(one.fitted_max <= 1e-5 for one in report.constraints)
    assert not report.problems


def test_a_motion_is_the_same_alone_and_in_a_batch(model: MotionGPT3) -> None:
    alone = [model.generate("a person runs", seconds=2, seed=seed, constraints=[PATH]) for seed in (4, 5)]
    [_, _, *together] = model.generate(["a person walks", "a person runs"], 2, 2, [PATH], seed=4)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.joints, other.joints)


def test_no_constraints_change_nothing(model: MotionGPT3) -> None:
    free, empty = model.generate("a person walks", 2), model.generate("a person walks", 2, constraints=[])
    np.testing.assert_array_equal(free.joints, empty.joints)
    assert not isinstance(empty, ConstrainedMotion)


def test_a_motion_is_as_long_as_its_constraints_need(model: MotionGPT3) -> None:
    late = c.RootPath(frames=[0, 99], xz=[[0, 0], [0, 1]])
    assert len(model.generate("a person walks", constraints=[late])) >= 100
    with pytest.raises(MotionGPT3Error, match="too late"):
        model.generate("a person walks", seconds=2, constraints=[late])


def test_impossible_wishes_are_refused_or_reported(model: MotionGPT3) -> None:
    hand = c.EffectorTarget("left_hand", seconds=1, positions=[0, 3, 0])
    with pytest.raises(MotionGPT3Error, match="higher"):
        model.generate("a person walks", seconds=2, constraints=[hand])
    motion = model.generate("a person walks", seconds=2, constraints=[hand], best_effort=True)
    assert "higher" in motion.constraint_report.problems[0]
    assert np.isfinite(motion.joints).all()
