"""What constraints cost, in numbers that one can count oneself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from people import person

from motiongpt3 import Motion
from motiongpt3.control import constraints as c
from motiongpt3.control.exact import fit
from motiongpt3.control.report import ConstrainedMotion, report

STAND = Motion(person(60))


def test_a_report_counts_what_was_off_and_what_was_moved() -> None:
    target = STAND.joints[30, 20] + np.float32([0, 0.12, 0])
    asked = c.resolve([c.EffectorTarget("left_hand", frames=30, positions=target)], 60, 20).constraints
    fitted, settled, _ = fit(STAND, asked)
    found = report(STAND, STAND, fitted, asked, settled)
    [one] = found.constraints
    assert (one.kind, one.frames) == ("effector", (30,))
    assert one.drawn_mean == one.drawn_max == pytest.approx(0.12, abs=1e-6)
    assert one.fitted_max <= 1e-5
    moved = np.linalg.norm(fitted.joints - STAND.joints, axis=-1)
    assert found.moved_max == pytest.approx(moved.max())
    assert found.moved_most in ("l_elbow", "l_wrist")
    assert found.free.contact_frames == found.held.contact_frames == 120
    assert json.loads(json.dumps(found.as_dict()))["constraints"][0]["name"] == "constraint 1 (target of l_wrist)"
    assert "12.00 cm" in str(found)


def test_a_constrained_motion_is_a_motion_until_it_is_changed() -> None:
    motion = ConstrainedMotion(STAND, report(STAND, STAND, STAND, [], []))
    assert motion == STAND
    assert motion.constraint_report.moved_max == 0
    assert type(motion[10:20]) is Motion
    assert type(motion.mirror()) is Motion
