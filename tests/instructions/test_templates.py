"""Every task's phrasings: enough, distinct, well formed, and none of them held back."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions import templates
from motiongpt3.instructions.prompt import Slot
from motiongpt3.instructions.templates import (
    SHORT_TASKS,
    TASKS,
    fields,
    filled,
    heldback,
    phrasings,
    questions,
    text_turns,
)


def plain(text: str) -> str:
    """What two phrasings that differ only in case, marks and spaces share; {name} becomes NAME."""
    text = re.sub(r"\{(\w+)\}", lambda match: f" {match[1].upper()} ", re.sub(r"[^{}]+", lambda m: m[0].lower(), text))
    return re.sub(r"\W+", " ", text).strip()


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_hundred_distinct_instructions_and_an_answer(task):
    texts = phrasings(task)
    assert len({plain(text) for text in texts.instructions}) == len(texts.instructions) >= 100
    assert texts.answers
    assert all(text == " ".join(text.split()) and "<|" not in text for text in texts.instructions)


def test_the_tasks_of_stage_2_have_short_phrasings():
    assert {task for task in TASKS if phrasings(task).short} == {
        *SHORT_TASKS,
        "predict_with_words",
        "inbetween_with_words",
    }


def test_no_instruction_belongs_to_two_tasks():
    every = [plain(text) for task in TASKS for text in (*phrasings(task).short, *phrasings(task).instructions)]
    assert [text for text, count in Counter(every).items() if count > 1] == []


def test_lengths_are_asked_in_seconds_and_in_frames():
    for task in ("caption_length_to_motion", "length_to_caption"):
        names = Counter(name for text in phrasings(task).instructions for name in fields(text))
        assert names["seconds"] >= 40
        assert names["frames"] >= 40
    for task in ("motion_to_length", "caption_to_length", "motion_to_caption_length"):
        frames = [text for text in phrasings(task).instructions if "frame" in text.lower()]
        assert len(frames) >= 20
        assert len(phrasings(task).instructions) - len(frames) >= 20


def test_some_motions_stand_inside_a_sentence_and_most_at_the_end():
    for task in ("motion_to_caption", "predict", "inbetween"):
        ends = Counter(text.endswith("}") for text in phrasings(task).instructions)
        assert ends[True] > 5 * ends[False] > 0


def test_two_hundred_questions_are_held_back():
    held = heldback()
    assert len(held) == len({item.question for item in held}) == 200
    assert min(Counter(item.expects for item in held).values()) >= 40
    assert {item.expects for item in held} == {"text", "motion", "both"}
    assert {p.name for item in held for p in item.question if isinstance(p, Slot)} == {"motion", "start", "end"}


def test_what_is_held_back_is_never_trained_on():
    trained = {plain(text) for text in questions()}
    open_ended = []
    for task in TASKS:
        for text in (*phrasings(task).short, *phrasings(task).instructions):
            words = re.sub(r" ?\b(MOTION|START|END)\b ?", " ", plain(text)).strip()
            trained.add(words)
            if words not in OPEN and re.search(r"[A-Z]", words):
                words = re.sub(r"\b(SECONDS|FRAMES)\b", r"[\\w ]+ \1", words).lower()
                words = re.sub(r"\b[sf]\b", r"\\w+", words)
                open_ended.append(re.compile(words.replace("caption", "(a|the|someone|somebody) .+")))
    for item in heldback():
        words = plain(" ".join(p for p in item.question if isinstance(p, str)))
        assert words not in trained
        assert [frame.pattern for frame in open_ended if frame.fullmatch(words)] == [], words


OPEN = {"CAPTION", "show CAPTION", "animate CAPTION", "CAPTION SECONDS"}
"""Phrasings so short that almost any sentence fits them."""


def test_plain_questions_are_many_and_their_answers_whole_sentences():
    assert len({plain(text) for text in questions()}) == len(questions()) >= 300

    turns = dict(text_turns())
    assert len(turns) >= 300
    assert set(turns) <= set(questions())
    assert all(answer.strip() == answer != "" and "<|" not in answer for answer in turns.values())


def test_a_filled_in_word_is_never_read_as_a_template():
    assert filled('Do "{caption}": {motion}', {"caption": "{motion} {s}"}) == ('Do "{motion} {s}":', Slot("motion"))


def test_a_missing_value_and_an_unknown_task_are_one_line():
    with pytest.raises(MotionGPT3Error, match="needs caption"):
        filled("Show {caption}.", {})
    with pytest.raises(MotionGPT3Error, match="there is no task 'dance'"):
        phrasings("dance")


@pytest.mark.parametrize(
    "content",
    [
        {"instructions": "Show {motion}."},
        {"instructions": "Show {caption}.", "answers": "{caption}"},
        {"instructions": "{caption} {caption}", "answers": "{motion}"},
        {"instructions": "Show {caption}.", "answers": "{motion}", "other": "x"},
    ],
)
def test_a_template_that_does_not_fit_its_task_is_refused(content, monkeypatch):
    monkeypatch.setattr(templates, "_read", lambda name: content)
    with pytest.raises(MotionGPT3Error, match="the template of caption_to_motion"):
        templates.phrasings.__wrapped__("caption_to_motion")
