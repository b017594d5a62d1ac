"""npy: joints, and HumanML3D's features as they are stored."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from clips import invented

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load, save


def test_round_trip_is_exact(tmp_path: Path) -> None:
    motion = invented()
    found = load(save(motion, tmp_path / "clip.npy"))
    np.testing.assert_array_equal(found.joints, motion.joints)
    assert found.fps == 20


@pytest.mark.parametrize("shape", [(12, 66), (1, 12, 22, 3), (12, 22, 3)])
def test_shapes_in_use(tmp_path: Path, shape: tuple[int, ...]) -> None:
    motion = invented()
    np.save(tmp_path / "clip.npy", np.asfortranarray(motion.joints.reshape(shape)))
    np.testing.assert_array_equal(load(tmp_path / "clip.npy").joints, motion.joints)


def test_features_as_humanml3d_stores_them(parity_dir: Path, tmp_path: Path) -> None:
    with np.load(parity_dir / "feats_012314.npz") as file:
        arrays = {key: file[key] for key in file.files}
    features = next(a for a in arrays.values() if a.ndim == 2 and a.shape[1] == 263)
    joints = next(a for a in arrays.values() if a.ndim == 3 and a.shape[1:] == (22, 3))
    np.save(tmp_path / "012314.npy", features)
    found = load(tmp_path / "012314.npy").joints
    count = min(len(found), len(joints))
    np.testing.assert_allclose(found[:count], joints[:count], atol=1e-5)


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.ones((3, 262)), "are expected"), (np.ones(3), "are expected"), (np.float64(3), "are expected"),
     (np.ones((3, 21, 3)), "22, 3"), (np.ones((0, 263)), "are expected"), (np.full((3, 263), np.nan), "NaN"),
     (np.ones((2, 3, 22, 3)), "are expected")],
)  # fmt: skip
def test_bad_arrays_end_in_one_line(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(MotionGPT3Error, match=message) as caught:
        load(tmp_path / "bad.npy")
    assert "\n" not in str(caught.value)


def test_objects_and_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(MotionGPT3Error, match="Python objects, which are refused"):
        load(tmp_path / "objects.npy")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(MotionGPT3Error, match="not a complete numpy array"):
        load(tmp_path / "pickle.npy")


def test_a_truncated_file(tmp_path: Path) -> None:
    path = save(invented(), tmp_path / "clip.npy")
    content = path.read_bytes()
    for size in (5, 20, 100, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(MotionGPT3Error):
            load(path)
