"""The judge of captions, on sentences and on what people wrote."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.checks.caption_check import (
    Directions,
    Labelled,
    action_of,
    actions,
    judge_captions,
    other_direction,
    other_side,
    said,
    sides,
    validate_judge,
)


@pytest.mark.parametrize(
    ("label", "caption", "right"),
    [
        ("wave right hand energetically", "a person waves with the right hand.", True),
        ("wave right hand", "somebody says hello with a raised hand", True),
        ("wave right hand", "a person raises the right hand.", False),
        ("raise right hand", "a person raises the right hand.", True),
        ("raise right hand", "a person raises the right hand and waves.", False),
        ("walk forward angrily", "a person strolls ahead.", True),
        ("walk forward", "a person walks forward without turning.", True),
        ("walk forward", "a person walks and turns left.", False),
        ("walk, turn left firmly", "a person walks and turns left.", True),
        ("walk and turn left", "a person walks forward.", False),
        ("run forward", "a person jogs forward.", True),
        ("run forward", "a person walks forward.", False),
        ("sit and stand", "a person takes a seat and rises.", True),
        ("sit and stand", "a person squats.", False),
        ("deep squat", "a person squats.", True),
        ("swing right arm back", "a person raises the right arm.", False),
        ("jump half turn", "a person hops and turns around.", True),
        ("left front kick", "a person kicks with the left leg.", True),
        ("left front kick", "", False),
    ],
)
def test_the_action_of_a_caption(label, caption, right):
    action = action_of(label)
    assert action is not None
    assert action.named_in(caption) is right
    assert action.named_in(caption.upper()) is right


def test_every_action_has_a_label_and_none_is_for_all():
    assert action_of("tell story with gestures") is None
    assert len({action.name for action in actions()}) == len(actions()) >= 20
    assert not [action.name for action in actions() if action.named_in("a person does something.")]


def test_what_a_caption_says_of_directions():
    assert said("a person lifts their left knee to the right elbow.") == {"knee": "left", "arm": "right"}
    assert said("a person walks backward and to the left.") == {"way": "left", "course": "backward"}
    assert said("a person raises the right arm, the left arm hanging loose.") == {"arm": "right"}
    assert said("a person shifts onto the left leg and lifts the right one.") == {"way": "right"}
    assert said("a person bends forward and walks ahead, leaning forward") == {"course": "forward"}
    assert said("a person brings the arm back.") == {}


CLIPS = [
    Labelled(["a person raises the right hand.", "a person lifts an arm."], "raise right hand"),
    Labelled(["a person raises the right arm and keeps the left arm down."], "raise right hand"),
    Labelled(["a person walks backward.", "a person retreats."], "walk backward"),
    Labelled(["a person squats.", "a person bends the knees."], "deep squat"),
    Labelled(["a person hops to the left.", "a person turns left in a jump"], "jump half turn"),
]


@pytest.mark.parametrize(
    ("clip", "caption", "sides", "courses"),
    [
        (0, "a person raises the right hand.", True, None),
        (0, "a person raises the left hand.", False, None),
        (0, "a person raises a hand.", None, None),
        (1, "a person lifts the left arm.", False, None),
        (2, "a person walks backward.", None, True),
        (2, "a person walks forward.", None, False),
        (3, "a person squats to the left.", None, None),
        (4, "a person jumps and turns left", True, None),
        (4, "a person jumps and turns right", False, None),
    ],
)
def test_directions_are_judged_where_the_clip_has_one(clip, caption, sides, courses):
    right = Directions(CLIPS).right(caption, CLIPS[clip])
    assert right == {"left_right": sides, "forward_backward": courses}


def test_a_report_counts():
    captions = [
        "a person raises the left hand.",
        "A person  waves.",
        "a person walks backward.",
        "a person waves.",
        "x",
    ]
    report = judge_captions(captions, CLIPS)
    assert (report.clips, report.judged, report.distinct) == (5, 5, 4)
    assert report.action == pytest.approx(2 / 5)
    assert (report.left_right, report.sides) == (0.0, 1)
    assert (report.forward_backward, report.courses) == (1.0, 1)
    assert report.by_action["raise arm"] == (2, 0.5)
    assert 0 < report.scores["bleu_1"] < 1
    assert "action word right: 40.0% of 5 captions" in report.table()
    json.dumps(asdict(report))
    perfect = judge_captions([clip.references[0] for clip in CLIPS], CLIPS)
    assert perfect.scores["bleu_4"] == pytest.approx(1)
    assert perfect.action == 1


def test_a_report_refuses_what_does_not_fit():
    with pytest.raises(MotionGPT3Error, match="2 captions for 1 clips"):
        judge_captions(["a", "b"], CLIPS[:1])
    with pytest.raises(MotionGPT3Error, match="two actions"):
        validate_judge([Labelled(["x"], "no such label")])


@pytest.mark.slow
def test_the_judge_agrees_with_what_people_wrote(mocap_dir: Path) -> None:
    """What docs/instructions.md states, on the test split."""
    records = [json.loads(line) for line in (mocap_dir / "clips.jsonl").read_text().splitlines()]
    clips = [Labelled(r["captions"], r["short"]) for r in records if r["split"] in ("val", "test") and r["captions"]]
    test = [Labelled(r["captions"], r["short"]) for r in records if r["split"] == "test" and r["captions"]]
    report = validate_judge(test, Directions(clips))
    assert report.unlisted == 0
    assert report.own >= 0.97
    assert report.others >= 0.97
    assert report.left_right is not None
    assert report.left_right >= 0.97
    assert report.mirrored is not None
    assert report.mirrored >= 0.95
    assert report.forward_backward is not None
    assert report.forward_backward >= 0.97
    assert report.reversed is not None
    assert report.reversed >= 0.95


@pytest.mark.parametrize(
    ("text", "side", "direction"),
    [
        ("a person walks forward.", None, "a person walks backward."),
        ("somebody walks backwards", None, "somebody walks forwards"),
        ("the figure jogs ahead.", None, "the figure jogs backward."),
        ("a person raises the left hand.", "a person raises the right hand.", None),
        ("someone steps forward with the right foot", *["someone steps forward with the left foot"],
         "someone steps backward with the right foot"),
        ("a person walks back and forth", None, None),
        ("a person goes forward, then backward", None, None),
        ("a person swings the leg forward and back", None, None),
        ("somebody jumps", None, None),
    ],
)  # fmt: skip
def test_opposites(text: str, side: str | None, direction: str | None) -> None:
    assert other_side(text) == side
    assert other_direction(text) == direction


def test_sides_are_told_in_order() -> None:
    assert sides("Left, then right.") == ("left", "right") != sides("right, then left")
    assert sides("a person walks ahead") != sides("a person walks backward") != sides("a person walks")
    assert sides("somebody waves") == ()
