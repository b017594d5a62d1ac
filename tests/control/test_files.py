"""Files of constraints: whose they are, at which rate, and what of damaged ones is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people import person

from motiongpt3 import MotionGPT3Error
from motiongpt3 import constraints as c
from motiongpt3.control.constraints import resolve

PATH = {"type": "root_path", "frames": [0, 30], "positions_xz": [[0, 0], [0, 1]]}
SET = {"type": "root2d", "frame_indices": [0, 30], "smooth_root_2d": [[0, 0], [0, 1]]}


def written(folder: Path, value: Any) -> Path:
    path = folder / "constraints.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_frames_count_at_the_files_rate_or_the_models_or_the_callers(tmp_path: Path) -> None:
    for value, rate in (
        ([PATH, SET], 20),
        ({"fps": 30, "constraints": [PATH]}, 30),
        ({"timing": {"fps": 60}, "constraints": [SET]}, 60),
    ):
        for fps, told in ((None, rate), (25, 25)):
            [first, *_] = c.load(written(tmp_path, value), fps)
            np.testing.assert_allclose(first.seconds, [0, 30 / told])


def test_a_dense_path_of_a_higher_rate_is_sampled_at_the_models_frames(tmp_path: Path) -> None:
    frames = list(range(60))
    dense = {"type": "root_path", "frames": frames, "positions_xz": [[0, frame / 60] for frame in frames]}
    [found] = resolve(c.load(written(tmp_path, {"fps": 60, "constraints": [dense]})), 20, 20).constraints
    assert found.frames.tolist() == list(range(20))
    np.testing.assert_allclose(found.positions[:, 0, 2], np.arange(20) / 20, atol=1e-9)


def test_of_poses_of_a_higher_rate_the_nearest_counts() -> None:
    poses = person(60, speed=1.0)
    keys = [c.Keyframe(pose, n / 30) for n, pose in enumerate(poses)]
    found = resolve(keys, 40, 20).constraints
    assert [int(one.frames[0]) for one in found] == list(range(40))
    np.testing.assert_allclose(found[2].positions[0, 0], poses[3, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("[{", "damaged"),
        ("[" * 100_000, "damaged"),
        ('[{"type": "root2d", "frame_indices": [NaN]}]', "NaN is no number"),
        ("{}", "no array"),
        ([1], "constraint 1: it is no object"),
        ([{"type": "magnet"}], "no type 'magnet'"),
        ([PATH, {"type": "root2d"}], "constraint 2: a root2d set has no frame_indices"),
        ([PATH] * 10_001, "10000 at most"),
        ({"fps": "fast", "constraints": []}, "fps must be a number"),
        ({"fps": 0, "constraints": []}, "fps must be a number"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, value: Any, says: str) -> None:
    with pytest.raises(MotionGPT3Error, match=says) as caught:
        c.load(written(tmp_path, value))
    assert "\n" not in str(caught.value)


def test_scenes_come_back(tmp_path: Path) -> None:
    path = c.RootPath(frames=[0, 10], xz=[[0, 0], [0, 1]], smooth=True)
    for scene in (c.Scene(("walk",), (4.0,), (path,), 3), c.Scene(("walk", "sit"), (2.0, None), ())):
        again = c.load_scene(c.save_scene(scene, tmp_path / "scene"))
        assert (again.prompts, again.seconds, again.seed) == (scene.prompts, scene.seconds, scene.seed)
        assert len(again.constraints) == len(scene.constraints)


@pytest.mark.parametrize(
    ("meta", "says"),
    [
        ({}, "must be a sentence"),
        ({"text": "walk", "duration": -1}, "must be seconds"),
        ({"text": "walk", "seed": "x"}, "whole"),
    ],
)
def test_damaged_scenes_are_refused(tmp_path: Path, meta: dict[str, Any], says: str) -> None:
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(MotionGPT3Error, match=says):
        c.load_scene(tmp_path)
