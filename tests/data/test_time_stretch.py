"""Motions made longer, and the captions that stay true of them."""

from __future__ import annotations

import numpy as np
import pytest

from motiongpt3.data.augment import Captioned, by_action
from motiongpt3.data.time_stretch import extend, lasting_captions
from motiongpt3.errors import MotionGPT3Error


def test_captions_that_outlive_a_change_of_length() -> None:
    captions = ["a person waves.", "a person waves twice.", "a person slowly waves for six seconds."]
    assert lasting_captions(captions, [True, True, True], "repeat") == captions[:1]
    assert lasting_captions(captions, [False, True, True], "loop") == []


def test_extend_goes_on_walking_and_holds_gestures(real_clips: list[Captioned]) -> None:
    rng = np.random.default_rng(0)
    groups = by_action(real_clips)
    walk = next(clip.joints for clip in groups["walk forward"] if len(clip.joints) >= 40)[:60]
    longer = extend(walk, 100, rng)
    assert longer is not None
    joints, mode = longer
    assert (mode, len(joints)) == ("loop", 100)
    speeds = np.linalg.norm(np.diff(joints[:, 0, [0, 2]], axis=0), axis=-1) * 20
    own = np.linalg.norm(np.diff(walk[:, 0, [0, 2]], axis=0), axis=-1) * 20
    assert speeds[-40:].mean() > 0.6 * own[10:].mean(), "it walks to the end"
    raised = next(clip.joints for clip in groups["raise right hand"] if len(clip.joints) < 50)
    held = extend(raised, 80, rng, "hold")
    assert held is not None
    assert len(held[0]) == 80
    assert (held[0][:, 21, 1] > held[0][:, 17, 1]).any()
    with pytest.raises(MotionGPT3Error, match="extend"):
        extend(walk, 10, rng)
