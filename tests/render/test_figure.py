"""The drawn mannequin: its surface is that of our GLB files, what is in front hides what is behind, edges are soft."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import invented, recorded
from glb_reader import parse

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import save
from motiongpt3.motion.motion import Motion
from motiongpt3.render.canvas import Scene
from motiongpt3.render.figure import FINE, Camera, Skin, fragments


def test_the_surface_is_that_of_the_glb_file(tmp_path: Path) -> None:
    motion = invented(2, 9, wildness=0.8)
    glb = parse(save(motion, tmp_path / "clip.glb").read_bytes())
    wanted = glb.skinned(glb.worlds(glb.times))
    skin = Skin(motion)
    for frame in (0, 4, 8):
        found, normals = skin.surface(frame)
        np.testing.assert_allclose(found, wanted[frame], atol=1e-4)
        assert np.isfinite(normals).all()
    np.testing.assert_array_equal(skin.triangles, glb.triangles)


def test_triangles_become_the_samples_they_cover() -> None:
    """Two squares that face the camera, the nearer one hides half of the other; one that turns its back is not seen."""
    camera = Camera((0.0, 0.0, 0.0), 0.0, 0.0, 10.0, 100.0, (10.0, 10.0))
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    for turned, seen in ((faces, 1.0), (faces[:, ::-1], 0.0)):
        number, _, _, depth = fragments(camera, square * 0.5, turned, (0, 0, 20, 20))
        assert len(number) == pytest.approx(seen * (10 * FINE) ** 2, rel=0.01)
        np.testing.assert_allclose(depth, 10, atol=1e-3)
    both = np.concatenate([square * 0.5, square * 0.45 + [0.45, 0, 1]]).astype(np.float32)
    number, owner, share, _ = fragments(camera, both, np.concatenate([faces, faces + 4]), (0, 0, 20, 20))
    assert len(set(number.tolist())) == len(number)
    right = number % (20 * FINE) >= 10 * FINE + 1
    inner = (number // (20 * FINE) > 6 * FINE) & (number // (20 * FINE) < 14 * FINE)
    assert (owner[right & inner] >= 2).all(), "the nearer one"
    assert (owner[~right & inner & (number % (20 * FINE) < 10 * FINE - 1)] < 2).all()
    np.testing.assert_allclose(share.sum(-1), 1, atol=1e-4)


@pytest.mark.slow
def test_it_stands_where_the_capsules_do(mocap_dir: Path) -> None:
    motion = recorded(mocap_dir, "test", 3)[1].replace(caption=None)
    bodies = [Scene(motion, 640, 480, body=body).frame(5).astype(int) for body in ("capsules", "mannequin")]
    scene = Scene(motion, 640, 480)
    empty = np.median([scene.frame(i) for i in np.linspace(0, len(motion) - 1, 9).astype(int)], axis=0)
    masks = [np.abs(body - empty).max(-1) > 60 for body in bodies]
    assert masks[1].sum() > 0.6 * masks[0].sum() > 500
    middles = [np.argwhere(mask).mean(0) for mask in masks]
    assert np.abs(middles[0] - middles[1]).max() < 15
    assert not np.array_equal(*bodies)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_pictures_and_odd_motions(tmp_path: Path, suffix: str) -> None:
    for motion in (invented(frames=1), Motion(np.ones((3, 22, 3))), Motion(np.full((2, 22, 3), 9e4))):
        assert save(motion, tmp_path / f"clip{suffix}", body="mannequin").stat().st_size > 1000


def test_there_is_no_other_body(tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="capsules or mannequin"):
        save(invented(), tmp_path / "clip.png", body="robot")  # type: ignore[arg-type]
