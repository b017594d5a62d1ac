"""Bounded reading: what is too large, no text, damaged or not finite is one line that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.untrusted import Npz, finite, json_object, read_bytes, read_npy, read_text


def test_no_more_is_read_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5, "is too large") == b"12345"
    with pytest.raises(MotionGPT3Error, match=r"^a\.bin is too large$"):
        read_bytes(path, 4, "is too large")
    with pytest.raises(MotionGPT3Error, match=r"cannot read .*No such file"):
        read_bytes(tmp_path / "b.bin", 4, "is too large")


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"caf\xc3\xa9 \xff")
    assert read_text(path, 100) == "caf\u00e9 \ufffd"
    path.write_bytes(b"a\0b")
    with pytest.raises(MotionGPT3Error, match="is not a text file"):
        read_text(path, 100)
    path.write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(MotionGPT3Error, match="is larger than 1 MB: too long for one motion"):
        read_text(path, 2**20)


def test_json_objects() -> None:
    assert json_object(b'{"a": [1, 2.5, null]}', "x") == {"a": [1, 2.5, None]}
    for data, message in (
        (b"[]", "is no object"), (b"{", "cannot be read"), (b'{"a": NaN}', "NaN is no number"),
        (b"\xff", "cannot be read"), (b"[" * 100_000, "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(MotionGPT3Error, match=message):
            json_object(data, "x")


def test_arrays(tmp_path: Path) -> None:
    wanted = np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3))
    np.save(tmp_path / "a.npy", wanted)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), wanted)
    np.savez(tmp_path / "a.npz", numbers=wanted, one=2.5, word="hello", none="")
    with Npz(tmp_path / "a.npz") as file:
        assert file.keys == {"numbers", "one", "word", "none"}
        assert file.numbers("numbers").dtype == np.float64
        assert (file.number("one"), file.text("word"), file.text("none"), file.text("other")) == (
            2.5, "hello", None, None
        )  # fmt: skip
        with pytest.raises(MotionGPT3Error, match=r"numbers must be one number, not an array of shape \(2, 3\)"):
            file.number("numbers")
        with pytest.raises(MotionGPT3Error, match=r"a\.npz has no array 'other'"):
            file.array("other")


def test_finite() -> None:
    np.testing.assert_array_equal(finite(np.array([1, 2]), "x"), [1.0, 2.0])
    for array, message in ((np.array([1.0, np.inf]), "NaN or infinite"), (np.array(["a"]), "not numbers")):
        with pytest.raises(MotionGPT3Error, match=message):
            finite(array, "x")
