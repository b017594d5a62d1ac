"""Motions are checked once and never change; examples in docstrings of the room are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import motiongpt3.motion
from motiongpt3.errors import MotionGPT3Error, NotFiniteError
from motiongpt3.motion.motion import MAX_DISTANCE, Motion, mirror_text

MODULES = [f"motiongpt3.motion.{module.name}" for module in pkgutil.iter_modules(motiongpt3.motion.__path__)]


def test_examples_in_docstrings() -> None:
    ran = {name: doctest.testmod(importlib.import_module(name)) for name in MODULES}
    assert not [name for name, result in ran.items() if result.failed]
    assert ran["motiongpt3.motion.motion"].attempted >= 3


@pytest.mark.parametrize(
    ("joints", "reason"),
    [
        (np.zeros((3, 21, 3)), r"joints must have shape \(frames, 22, 3\), not \(3, 21, 3\)"),
        (np.zeros((0, 22, 3)), "a motion has 1 to 200000 frames, not 0"),
        ([["a"]], "joints are not an array of numbers"),
    ],
)
def test_what_is_no_motion_is_refused(joints: object, reason: str) -> None:
    with pytest.raises(MotionGPT3Error, match=reason):
        Motion(joints)  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "NaN or infinite"), (1.01 * MAX_DISTANCE, "100 km")])
def test_what_is_nowhere_is_refused(value: float, reason: str) -> None:
    with pytest.raises(NotFiniteError, match=reason):
        Motion(np.full((2, 22, 3), value))


def test_joints_cannot_be_changed_and_are_a_copy() -> None:
    joints = np.zeros((2, 22, 3), dtype=np.float32)
    motion = Motion(joints)
    joints[:] = 1
    assert not motion.joints.any()
    with pytest.raises(ValueError, match="read-only"):
        motion.joints[0] = 1


def test_resampling_goes_along_lines() -> None:
    ramp = Motion(np.arange(5.0)[:, None, None] * np.ones((22, 3)))
    np.testing.assert_allclose(ramp.resample(30).joints[:, 0, 0], np.arange(7) * 2 / 3, rtol=1e-6)
    assert ramp.resample(20) is ramp
    assert len(ramp[:1].resample(30)) == 1


def test_left_and_right_swap_and_capitals_stay() -> None:
    text = "Leftmost, then CLOCKWISE to the right"
    assert mirror_text(text) == "Rightmost, then COUNTERCLOCKWISE to the left"
    assert mirror_text(mirror_text(text)) == text
