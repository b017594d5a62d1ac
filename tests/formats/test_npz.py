"""npz: exact round trips, and hostile files that end in one line."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import invented
from hypothesis import given, settings
from hypothesis import strategies as st
from people import person

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load, read, save
from motiongpt3.motion.motion import Motion
from motiongpt3.untrusted import MAX_ARRAY_BYTES

texts = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.floats(0.1, 1000), texts, st.integers(0, 99))
def test_round_trip_is_exact(
    tmp_path_factory: pytest.TempPathFactory, frames: int, fps: float, caption: str | None, seed: int
) -> None:
    motion = invented(seed, frames, fps).replace(caption=caption, name="the name")
    found = load(save(motion, tmp_path_factory.mktemp("npz") / "clip.npz"))
    assert found == motion
    assert found.name == "the name"


def test_only_joints_are_needed(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", joints=np.ones((3, 22, 3), dtype=np.int16))
    motion = load(tmp_path / "plain.npz")
    assert (len(motion), motion.fps, motion.caption, motion.name) == (3, 20.0, None, "plain")


good = np.ones((3, 22, 3))
nan = np.where(np.arange(22)[:, None] == 7, np.nan, good)
HOSTILE = {
    "no joints": ({"poses": good}, "needs an array 'joints'"),
    "wrong shape": ({"joints": np.ones((3, 20, 3))}, r"joints \(frames, 22, 3\)"),
    "one dimension": ({"joints": np.ones(3)}, r"joints \(frames, 22, 3\)"),
    "no frames": ({"joints": np.ones((0, 22, 3))}, "a motion has 1 to"),
    "NaN": ({"joints": nan}, "NaN or infinite"),
    "infinite": ({"joints": nan * np.inf}, "NaN or infinite"),
    "huge": ({"joints": good * 1e30}, "km from the origin"),
    "text": ({"joints": np.full((3, 22, 3), "x")}, "not numbers"),
    "complex": ({"joints": good * 1j}, "which no motion has"),
    "fps zero": ({"joints": good, "fps": 0}, "fps must be"),
    "fps many": ({"joints": good, "fps": np.ones(2)}, "fps must be one number"),
    "fps text": ({"joints": good, "fps": "20"}, "not numbers"),
    "caption number": ({"joints": good, "caption": 3}, "caption must be one text"),
    "objects": ({"joints": np.array([{"a": 1}], dtype=object)}, "Python objects, which are refused"),
    "odd axis": ({"joints": good, "up": "w"}, "bad.npz says of itself what cannot be: up is one of"),
    "odd unit": ({"joints": good, "unit": "km"}, "unit is one of"),
    "object caption": ({"joints": good, "caption": np.array(["a", None])}, "Python objects"),
    "records": ({"joints": np.zeros(3, dtype=[("a", "f8")])}, "no motion has"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_bad_arrays_end_in_one_line(tmp_path: Path, case: str) -> None:
    arrays, message = HOSTILE[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(MotionGPT3Error, match=message) as caught:
        load(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_never_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = save(invented(frames=2), tmp_path_factory.mktemp("npz") / "clip.npz")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(1, len(content) - 1))]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
            content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(MotionGPT3Error):
        load(path)


def archive(path: Path, header: bytes, body: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("joints.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    frames = MAX_ARRAY_BYTES // (22 * 3 * 4) + 1
    archive(
        tmp_path / "bomb.npz", b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 22, 3)}" % frames, bytes(10**6)
    )
    with pytest.raises(MotionGPT3Error, match=r"declares .* values; more than"):
        load(tmp_path / "bomb.npz")
    archive(tmp_path / "lie.npz", b"{'descr': '<f4', 'fortran_order': False, 'shape': (200000, 22, 3)}", bytes(10**6))
    with pytest.raises(MotionGPT3Error, match="cut short"):
        load(tmp_path / "lie.npz")


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[" * 5000, b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 22, 3)}",
     b"{'descr': '|V9999999999', 'fortran_order': False, 'shape': (1,)}", b"__import__('os').getcwd()",
     b"{'descr': '<f4', 'fortran_order': False, 'shape': (10**99, 22, 3)}"],
)  # fmt: skip
def test_hostile_headers(tmp_path: Path, header: bytes) -> None:
    archive(tmp_path / "bad.npz", header, bytes(100))
    with pytest.raises(MotionGPT3Error) as caught:
        load(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_an_encrypted_or_odd_archive_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, joints=good)
    content = bytearray(buffer.getvalue())
    central = content.rindex(b"PK\x01\x02")
    content[central + 8] |= 1
    content[6] |= 1
    (tmp_path / "locked.npz").write_bytes(content)
    with pytest.raises(MotionGPT3Error, match="damaged"):
        load(tmp_path / "locked.npz")


def test_the_round_trip_of_new_joints_is_exact(tmp_path: Path) -> None:
    motion = invented()
    found = load(save(motion, tmp_path / "clip.npy"))
    np.testing.assert_array_equal(found.joints, motion.joints)
    assert found.fps == 20


@pytest.mark.parametrize("shape", [(12, 66), (1, 12, 22, 3), (12, 22, 3)])
def test_shapes_in_use(tmp_path: Path, shape: tuple[int, ...]) -> None:
    motion = invented()
    np.save(tmp_path / "clip.npy", np.asfortranarray(motion.joints.reshape(shape)))
    np.testing.assert_array_equal(load(tmp_path / "clip.npy").joints, motion.joints)


def test_features_as_humanml3d_stores_them(parity_file: Callable[[str], Path], tmp_path: Path) -> None:
    with np.load(parity_file("feats_012314.npz")) as file:
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
     (np.ones((3, 20, 3)), "22, 3"), (np.ones((0, 263)), "0 frames"), (np.full((3, 263), np.nan), "NaN"),
     (np.ones((2, 3, 22, 3)), "choose one with --animation 1 to 2")],
)  # fmt: skip
def test_bad_new_joints_end_in_one_line(tmp_path: Path, array: np.ndarray, message: str) -> None:
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


def test_what_a_file_says_of_its_axes_is_believed(tmp_path: Path) -> None:
    """A person who lies through the clip, and nobody doubts it; the user may."""
    lying = person(30)[..., [0, 2, 1]] * np.float32([1, -1, 1])
    lying[..., 1] -= lying[..., 1].min()
    reading = read(save(Motion(lying), tmp_path / "clip.npz"))
    assert (reading.motion, reading.notes, reading.doubts) == (Motion(lying, name="clip"), (), ())
    np.savez(tmp_path / "bare.npz", joints=lying * 100, unit="cm", up="y")
    np.testing.assert_allclose(load(tmp_path / "bare.npz").joints, lying, atol=1e-5)
    deep = Motion(lying - np.float32([0, 5, 0]))
    assert np.array_equal(load(save(deep, tmp_path / "deep.npz")).joints, deep.joints)
    stood = load(tmp_path / "clip.npz", up="z").joints
    assert np.ptp(stood[..., 1]) > 1.2
