"""Files that a page gives away: what is exported can be opened, is finished, and has a plain name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moving_model import swinging

from motiongpt3 import Motion
from motiongpt3.app.controls import changes_html, file_stem, made
from motiongpt3.app.uploads import read_upload


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


@pytest.mark.slow
def test_a_film_is_exported() -> None:
    data, _ = made(Motion(swinging(4)), "mp4", {})
    assert data[4:8] == b"ftyp"


@pytest.mark.slow
@given(st.text(max_size=400))
def test_files_have_plain_names(caption: str) -> None:
    stem = file_stem(Motion(np.zeros((1, 22, 3)), caption=caption))
    assert 0 < len(stem) <= 40
    assert all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in stem)
