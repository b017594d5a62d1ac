"""Timelines: read, written, and refused where tracks collide."""

from __future__ import annotations

from pathlib import Path

import pytest

from motiongpt3 import MotionGPT3Error
from motiongpt3 import constraints as c

TEXT = """walk forward # 0.0 # 4 # legs # torso
wave with the right hand # 1 # 3.5 # right_arm

squat # 0 # 3 # legs # spine # left hand
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "scene.txt"
    path.write_text(text)
    return path


def test_timelines_are_read_and_come_back(tmp_path: Path) -> None:
    first, second = c.load_timelines(written(tmp_path, TEXT))
    assert first[0] == c.Track("walk forward", 0.0, 4.0, ("legs", "spine"))
    assert second[0].parts == ("legs", "spine", "left arm")
    again = c.load_timelines(c.save_timelines([first, second], tmp_path / "again.txt"))
    assert again == [first, second]
    with pytest.raises(MotionGPT3Error, match="2 timelines"):
        c.load_timeline(tmp_path / "scene.txt")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no track"),
        ("walk # 0 # 2", "line 1: it should be TEXT"),
        ("walk # 0 # soon # legs", "should be seconds"),
        ("walk # nan # 2 # legs", "must end after it starts"),
        ("walk # 2 # 1 # legs", "must end after it starts"),
        ("walk # 0 # 2 # tail", "no part 'tail'"),
        (" # 0 # 2 # legs", "says what happens"),
        ("walk # 0 # 2 # legs\nrun # 1.5 # 3 # left leg", "both want the legs for 0.5 s from 1.5 s on"),
    ],
)
def test_what_is_no_timeline_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(MotionGPT3Error, match=says) as caught:
        c.load_timelines(written(tmp_path, text))
    assert "\n" not in str(caught.value)
