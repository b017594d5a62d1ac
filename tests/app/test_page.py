"""What the page is made of, without a browser."""

from __future__ import annotations

import io
import socket
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moving_model import swinging

from motiongpt3 import Motion, MotionGPT3Error
from motiongpt3.app.controls import changes_html, file_stem, made
from motiongpt3.app.page import Playback
from motiongpt3.app.uploads import read_upload
from motiongpt3.cli.main import main
from motiongpt3.service.motion_files import MAX_UPLOAD, check_frames


def test_playback_goes_on_at_its_speed_and_begins_again() -> None:
    playback = Playback()
    playback.advance(1)
    assert playback.time == 0
    playback.start(4)
    playback.speed = 0.5
    playback.advance(3)
    assert playback.time == 1.5
    playback.toggle()
    playback.advance(3)
    assert playback.time == 1.5
    playback.toggle()
    playback.advance(6)
    assert playback.time == 0.5


@given(st.floats(-10, 10), st.floats(0, 5), st.lists(st.floats(0, 3), max_size=5))
def test_playback_stays_within_the_motion(to: float, length: float, steps: list[float]) -> None:
    playback = Playback()
    playback.start(length)
    playback.seek(to)
    for step in steps:
        playback.advance(step)
    assert 0 <= playback.time <= length


@pytest.mark.parametrize("suffix", ["bvh", "glb", "npz"])
def test_what_is_exported_can_be_opened(suffix: str) -> None:
    motion = Motion(swinging(40))
    data, done = made(motion, suffix, {})
    assert done == (motion, None)
    assert np.abs(read_upload(f"../../{suffix.upper()}.{suffix}", data).joints - motion.joints).max() < 0.02


def test_exports_are_finished() -> None:
    motion = Motion(swinging(60))
    data, (_, changes) = made(motion, "npz", {"in_place": True, "fps": 30.0, "smooth": None})
    moved = read_upload("a.npz", data)
    assert moved.fps == 30
    assert np.ptp(motion.joints[:, 0, 0]) > 1
    assert np.ptp(moved.joints[:, 0, 0]) < 0.1
    assert changes is not None
    assert "<td>travel</td><td>1.18</td><td>→</td><td>0.00</td><td>m</td>" in changes_html(changes)
    assert "bone variation" not in changes_html(changes), "it is as it was"
    assert "No measure" in changes_html({name: {"before": 1, "after": 1.001} for name in changes})


def test_a_film_is_exported() -> None:
    data, _ = made(Motion(swinging(4)), "mp4", {})
    assert data[4:8] == b"ftyp"


@pytest.mark.parametrize(("wishes", "told"), [({}, False), ({"loop": True}, False), ({"fps": 240.0}, True)])
def test_what_is_finished_is_bounded(wishes: dict[str, Any], told: bool) -> None:
    long = Motion(np.zeros((2000, 22, 3)), 20)
    with pytest.raises(MotionGPT3Error, match="these are 24000") if told else nullcontext():
        check_frames([long], wishes)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.exe", b"x", "a motion is read from"),
        ("a", b"x", "a motion is read from"),
        ("a.npz", b"x" * 100, "motion.npz"),
        ("a.bvh", b"", "is empty"),
        ("a.glb", b"x" * 100, "motion.glb is no GLB file"),
        ("../a.GLB", b"glTF\2\0\0\0\0\0\0\1", "motion.glb is cut short"),
        ("a.vrm", b"glTF", "a motion is read from bvh, glb, npz, npy"),
        ("a.bvh", bytes(MAX_UPLOAD + 1), "at most 20 MB"),
    ],
)
def test_files_that_are_no_motions_are_refused(name: str, data: bytes, why: str) -> None:
    with pytest.raises(MotionGPT3Error, match=why):
        read_upload(name, data)


def test_a_long_motion_is_refused() -> None:
    file = io.BytesIO()
    np.savez(file, joints=np.zeros((2, 22, 3), np.float32), fps=np.float32(0.001))
    with pytest.raises(MotionGPT3Error, match="at most 600"):
        read_upload("a.npz", file.getvalue())


@given(st.text(max_size=400))
def test_files_have_plain_names(caption: str) -> None:
    stem = file_stem(Motion(np.zeros((1, 22, 3)), caption=caption))
    assert 0 < len(stem) <= 40
    assert all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in stem)


def test_a_taken_port_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["app", "--port", str(other.getsockname()[1])]) == 2
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err
