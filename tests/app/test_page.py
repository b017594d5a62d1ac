"""What the page is made of, without a browser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from motiongpt3.app.page import Playback


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
