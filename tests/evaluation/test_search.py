"""Searching motion files by a sentence, with vectors made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.search import motion_files, search_motions
from motiongpt3.motion.motion import Motion


class Compass:
    """Embeds a motion by where its pelvis goes, and a text by the two numbers in it; not of length 1."""

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[float(word) for word in text.split()] for text in texts])

    def embed_motions(self, motions: list[Motion]) -> torch.Tensor:
        return torch.stack([torch.from_numpy((m.joints[-1, 0] - m.joints[0, 0])[[0, 2]].copy()) for m in motions])


def going(x: float, z: float, frames: int = 21) -> Motion:
    return Motion(np.linspace(0, 1, frames)[:, None, None] * [x, 0, z] + np.zeros((frames, 22, 3)))


def test_the_nearest_in_angle_comes_first(tmp_path: Path) -> None:
    for name, way in (("ahead", (0, 5)), ("left", (1, 0)), ("between", (0.1, 0.1)), ("back", (0, -9))):
        going(*way).save(tmp_path / f"{name}.npz")
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    skipped: list[str] = []
    evaluator: Any = Compass()
    found = search_motions(evaluator, "0 2", motion_files(tmp_path), lambda file, why: skipped.append(file.name))
    assert [one.file.stem for one in found] == ["ahead", "between", "left", "back"]
    assert [one.similarity for one in found] == pytest.approx([1, 0.5**0.5, 0, -1], abs=1e-5)
    assert {one.seconds for one in found} == {1.05}
    assert skipped == ["broken.npz"]
    with pytest.raises(MotionGPT3Error, match="none of the files can be read"):
        search_motions(evaluator, "0 2", [tmp_path / "broken.npz"], lambda *_: None)


def test_files_are_found_by_suffix_at_any_depth_in_order(tmp_path: Path) -> None:
    for name in ("b.npz", "a/z.BVH", "a/b/c.glb", "notes.txt", "film.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [file.relative_to(tmp_path).as_posix() for file in motion_files(tmp_path)] == [
        "a/b/c.glb",
        "a/z.BVH",
        "b.npz",
    ]
    with pytest.raises(MotionGPT3Error, match=r"b\.npz is no folder"):
        motion_files(tmp_path / "b.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MotionGPT3Error, match="holds no motion files; readable are"):
        motion_files(tmp_path / "empty")
