"""Length words: what is a duration of the whole motion, and what only sounds like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motiongpt3.instructions.lengths import parse_length, spell_frames, spell_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("a person walks for three seconds.", 3),
        ("a person walks for 3 seconds.", 3),
        ("a person jumps with 80 frames.", 4),
        ("a person waves, 3.5 sec", 3.5),
        ("3.5s: a person waves", 3.5),
        ("a person waves for .5 s", 0.5),
        ("make a 4-second clip of a person who sits down", 4),
        ("a three second clip of somebody waving", 3),
        ("a two-second jump", 2),
        ("sixty frames of marching, please.", 3),
        ("one hundred frames in which someone squats", 5),
        ("one hundred and twenty frames of running", 6),
        ("a person squats for one and a half seconds", 1.5),
        ("a person squats for half a second", 0.5),
        ("a person runs for twenty-five seconds", 25),
        ("a person runs for one minute", 60),
        ("a person walks forward and waves, lasting 6 seconds", 6),
        ("a person walks and then sits down, 5 seconds long", 5),
        ("Show for 60 frames how a person kicks three times.", 3),
        ("a person walks slowly for 7 seconds without stopping", 7),
        ("A person takes four steps in 2 seconds.", 2),
        ("the person spins for 4 seconds, yes, 4 seconds", 4),
    ],
)
def test_a_length_is_read(text, seconds):
    assert parse_length(text, fps=20) == pytest.approx(seconds)
    assert parse_length(text.upper(), fps=20) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "a person walks.",
        "a person takes three steps",
        "a person turns 90 degrees",
        "a person jumps for the third time",
        "a person steps for the second time",
        "a person raises the left arm, two seconds later the right one",
        "a person walks and after two seconds stops",
        "a person waves every 2 seconds",
        "a person walks for the first two seconds",
        "a person claps with two steps per second at 30 frames per second",
        "a person walks, pauses for two seconds, and walks on",
        "a person stands still for two seconds and walks on",
        "a person walks forward, then waves for three seconds",
        "a person waves for three seconds before sitting down",
        "a person runs for 2 seconds and walks for 4 seconds",
        "a person walks for 2 to 3 seconds",
        "a person walks for 2-3 seconds",
        "a person walks for two or three seconds",
        "a person waves for a few seconds",
        "a person waves for a second",
        "a person dances like in the 80s",
        "a person dances an 80s dance",
        "a person finishes in second place",
        "a person runs 3 meters",
        "a person stretches 3 times, sets down 2 scenes",
        "at 2:30 seconds matter",
        "a person turns after a two-second pause",
        "a person walks for at least three seconds",
        "a person raises the left hand, keeping it up for about two seconds",
    ],
)
def test_what_is_no_length_of_the_whole_is_left_alone(text):
    assert parse_length(text, fps=20) is None


@given(st.integers(1, 1200), st.sampled_from(["digits", "words", "short", "sec"]))
def test_what_is_spelled_is_read_again(tenths, spelling):
    assert parse_length(f"a person walks for {spell_seconds(tenths / 10, spelling)}.") == pytest.approx(tenths / 10)


@given(st.integers(1, 5000))
def test_frames_are_read_again_at_any_rate(frames):
    assert parse_length(f"a motion with {spell_frames(frames)}", fps=30) == pytest.approx(frames / 30)


@pytest.mark.slow
@given(st.text(max_size=200))
def test_any_text_is_read_without_error(text):
    length = parse_length(text)
    assert length is None or length >= 0


def test_spellings():
    assert [spell_seconds(3, s) for s in ("digits", "words", "short", "sec", "number")] == [
        "3 seconds",
        "three seconds",
        "3 s",
        "3 sec",
        "3",
    ]
    assert (spell_seconds(1), spell_seconds(3.4999), spell_seconds(3.5, "words"), spell_seconds(0)) == (
        "1 second",
        "3.5 seconds",
        "3.5 seconds",
        "0.1 seconds",
    )
    assert (spell_frames(1), spell_frames(80)) == ("1 frame", "80 frames")
