"""Measures before and after finishing."""

from __future__ import annotations

import numpy as np
from clips import invented

from motiongpt3.motion.changes import UNITS, changes, report
from motiongpt3.motion.finish import finish


def test_each_motion_counts_once() -> None:
    before = [invented(frames=frames, wildness=0.3) for frames in (30, 60)]
    after = [finish(motion, in_place=True) for motion in before]
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
