"""Bounded reading: what is too large, no text, damaged or not finite is one line that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.untrusted import Npz, finite, json_object, load_yaml, read_bytes, read_npy, read_text


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1e999}', "1e999 is no number"),
        ('{"a": ' + "9" * 5000 + "}", "cannot be read"),
        ('{"a": ' + "9" * 400 + "}", "is no number that is expected"),
    ],
)
def test_json_that_could_not_be_written_again(text: str, message: str) -> None:
    with pytest.raises(MotionGPT3Error, match=message):
        json_object(text, "x")
    assert json_object('{"a": "\\ud83d\\ude00"}', "x") == {"a": "\U0001f600"}


def test_yaml_is_plain() -> None:
    assert load_yaml("a: 1\nb: [x, 2.5, true, null]\nc: 2001-99-99", "x") == {
        "a": 1, "b": ["x", 2.5, True, None], "c": "2001-99-99"
    }  # fmt: skip
    for text, message in (
        ("a: &a [1]\nb: *a", "an alias"), ("[" * 3000, "nested too deeply|is no YAML"), ("a: [", "is no YAML"),
        ("- 1\n" * 100_001, "more than 100,000 values"), ("a: !!timestamp x", "is no YAML"),
        ("a: !!python/object/apply:os.system [ls]", "is no YAML"), ("a: !!int 0x", "is no YAML"),
    ):  # fmt: skip
        with pytest.raises(MotionGPT3Error, match=message):
            load_yaml(text, "x")


def _npy(path: Path, descr: str, shape: str, data: bytes = b"") -> Path:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data)
    return path


@pytest.mark.parametrize(
    ("descr", "shape", "message"),
    [
        ("|u1", "(67108865,)", "declares 67,108,865 values; more than 67,108,864 are refused"),
        ("<f8", "(1000000, 1000000)", "values; more than"),
        ("<U0", "(20, 22, 3)", "which no motion has"),
        ("|S0", "(20, 22, 3)", "which no motion has"),
        ("<f4", "(True, 22, 3)", "which no motion has"),
        ("<f4", "(20.0, 22, 3)", "not a complete numpy array"),
        ("<f4", "(-1, 22, 3)", "which no motion has"),
        ("<M8[s]", "(2,)", "which no motion has"),
        ("<c16", "(2,)", "which no motion has"),
    ],
)
def test_arrays_are_refused_by_their_header(tmp_path: Path, descr: str, shape: str, message: str) -> None:
    with pytest.raises(MotionGPT3Error, match=message):
        read_npy(_npy(tmp_path / "a.npy", descr, shape))


def test_a_header_is_as_short_as_headers_are(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + (2**31 - 1).to_bytes(4, "little") + b"{'descr'")
    with pytest.raises(MotionGPT3Error, match="its header has 2,147,483,647 bytes"):
        read_npy(path)
