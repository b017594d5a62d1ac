"""Sequences to train on: the right motions, words to learn and lengths for each task."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.templates import TASKS, text_turns
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.sequence import InputMotion, OutputMotion, TextPiece
from motiongpt3.training.task_mix import TaskMix, TrainingSequence, check_tasks

CAPTIONS = ["a person walks forward.", "somebody jumps."]
FRAMES = torch.tensor([[60, 50], [20, 0], [15, 0]])
"""The second clip is too short to have ends."""
WHOLE = torch.tensor([True, False])
"""And it is a part of a recording."""

SHOWS = {  # of a clip number c of two: c the whole, 2 + c its beginning, 4 + c its end
    "motion_to_caption": (0,),
    "motion_to_length": (0,),
    "motion_to_caption_length": (0,),
    "predict": (2,),
    "predict_with_words": (2,),
    "inbetween": (2, 4),
    "inbetween_with_words": (2, 4),
}
DRAWS = ("caption", "caption_to_motion", "caption_length_to_motion", "random_motion", "both_motion_and_text")
MOTION = (*DRAWS, "predict", "predict_with_words", "inbetween", "inbetween_with_words")


@pytest.fixture(scope="module")
def model(tiny_reader_dir: Path) -> MotionGPT3:
    return MotionGPT3.from_pretrained(tiny_reader_dir)


def sequences(model: MotionGPT3, task: str, stage: Any = 3, seed: int = 0, **options: Any) -> list[TrainingSequence]:
    return TaskMix(model, {task: 1.0}, stage, **options).sequences(CAPTIONS, FRAMES, WHOLE, seed)


def spoken(model: MotionGPT3, sequence: TrainingSequence, learned: bool) -> str:
    ids = [i for piece in sequence.row if isinstance(piece, TextPiece) and piece.learn == learned for i in piece.ids]
    return model.backbone.decode(ids)


@pytest.mark.parametrize("task", [*TASKS, "caption", "plain_text"])
def test_each_task_shows_and_draws_what_it_is_about(model: MotionGPT3, task: str) -> None:
    for seed in range(5):
        sequence = sequences(model, task, seed=seed)[0]
        assert sequence.shows == SHOWS.get(task, ())
        assert sequence.draws == (0 if task in MOTION else None)
        kinds = [type(piece) for piece in sequence.row]
        assert kinds.count(InputMotion) == len(sequence.shows)
        assert kinds.count(OutputMotion) == (task in MOTION)
        assert [p.motion for p in sequence.row if isinstance(p, InputMotion)] == list(range(len(sequence.shows)))
        # Questions come first and are not learned; the answer is, and a motion in it is decided upon.
        learned = [piece.learn for piece in sequence.row if not isinstance(piece, InputMotion)]
        assert learned == sorted(learned)
        assert learned[-1]
        assert all(piece.learn for piece in sequence.row if isinstance(piece, OutputMotion))
        assert sequence.tells_length == (task in ("caption", "caption_to_motion", "caption_length_to_motion"))


def test_captions_are_asked_with_or_answered(model: MotionGPT3) -> None:
    for task, learned in (("caption", False), ("caption_to_motion", False), ("motion_to_caption", True)):
        for sequence, words in zip(sequences(model, task, 2), (("walks", "forward"), ("jumps",)), strict=True):
            assert set(words) <= set(spoken(model, sequence, learned).split())
            assert not set(words) & set(spoken(model, sequence, not learned).split())


def test_in_stage_2_nothing_is_learned_behind_a_motion(model: MotionGPT3) -> None:
    """The end of the turn is the text stream's business, which is frozen."""
    for task in ("caption_to_motion", "predict", "inbetween_with_words"):
        assert isinstance(sequences(model, task, 2)[0].row[-1], OutputMotion)
        assert isinstance(sequences(model, task, 3)[0].row[-1], TextPiece)
    assert isinstance(sequences(model, "motion_to_caption", 2)[0].row[-1], TextPiece)


def test_short_clips_and_parts_fall_back(model: MotionGPT3) -> None:
    for task in ("predict", "predict_with_words", "inbetween", "inbetween_with_words"):
        sequence = sequences(model, task)[1]
        assert (sequence.shows, sequence.draws) == ((), 1)  # text to motion instead
        assert not sequence.tells_length  # and only a part
        assert "jumps" in spoken(model, sequence, False)
    part = sequences(model, "caption_to_length")[1]
    assert (part.shows, part.draws) == ((1,), None)  # its caption does not tell how long it is: it is shown
    assert sequences(model, "caption_to_motion")[1].tells_length is False
    assert sequences(model, "caption_length_to_motion")[1].tells_length is True


def test_plain_text_is_a_turn_of_ours(model: MotionGPT3) -> None:
    turns = text_turns()
    encode = model.backbone.tokenizer.encode
    answers = {tuple(encode(f"{answer}<|im_end|>", add_special_tokens=False).ids) for _, answer in turns}
    seen = set()
    for seed in range(5):
        for sequence in sequences(model, "plain_text", seed=seed):
            assert len(sequence.row) == 2
            assert sequence.row[1].ids in answers  # type: ignore[union-attr]
            seen.add(sequence.row)
    assert len(seen) > 5


def test_prompts_are_learned_if_asked_for(model: MotionGPT3) -> None:
    for sequence in sequences(model, "motion_to_caption", learn_prompts=True):
        assert all(piece.learn for piece in sequence.row if isinstance(piece, TextPiece))


def test_tasks_are_drawn_by_weight_and_a_step_is_of_one_kind(model: MotionGPT3) -> None:
    """Among others, so that little is padded; over many steps each task has its share."""
    mix = TaskMix(model, {"caption": 2.0, "motion_to_caption": 1.0, "predict": 1.0, "random_motion": 0.0}, 3)
    assert mix.kinds == [False, True]
    seen: Counter[str] = Counter()
    for seed in range(300):
        made = mix.sequences(CAPTIONS[:1] * 4, FRAMES[:, :1].expand(3, 4), WHOLE[:1].expand(4), seed)
        names = ["words" if x.draws is None else "predict" if x.shows else "caption" for x in made]
        assert ("words" in names) == (set(names) == {"words"})
        seen.update(names)
    shares = {name: count / 1200 for name, count in seen.items()}
    assert shares == pytest.approx({"caption": 0.5, "words": 0.25, "predict": 0.25}, abs=0.08)
    assert mix.sequences(CAPTIONS, FRAMES, WHOLE, 7) == mix.sequences(CAPTIONS, FRAMES, WHOLE, 7)
    for in_words in (True, False):
        for seed in range(5):
            for sequence in mix.sequences(CAPTIONS, FRAMES, WHOLE, seed, in_words):
                assert (sequence.draws is None) == in_words


def test_rows_are_renumbered_for_a_batch(model: MotionGPT3) -> None:
    sequence = sequences(model, "inbetween")[0]
    row = sequence.renumbered(5, 3)
    assert [piece.motion for piece in row if isinstance(piece, InputMotion)] == [5, 6]
    assert [piece.motion for piece in row if isinstance(piece, OutputMotion)] == [3]
    assert [piece for piece in row if isinstance(piece, TextPiece)] == [
        p for p in sequence.row if isinstance(p, TextPiece)
    ]


@pytest.mark.parametrize(
    ("tasks", "stage", "message"),
    [
        ({"dance": 1.0}, "2", "there is no task 'dance'; there are caption_to_motion, .*, caption, plain_text"),
        ({"predict": -1.0}, "2", "the weight of task predict must be a number from 0, not -1"),
        ({"predict": float("nan")}, "2", "the weight of task predict"),
        ({"predict": float("inf")}, "2", "the weight of task predict"),
        ({}, "2", "no task has a weight above 0"),
        ({"predict": 0.0}, "2", "no task has a weight above 0"),
        ({"predict": 1.0, "random_motion": 1.0}, "2", "random_motion is no task of stage 2"),
    ],
)
def test_tasks_that_cannot_be(tasks: dict[str, float], stage: Any, message: str) -> None:
    with pytest.raises(MotionGPT3Error, match=f"^{message}") as caught:
        check_tasks(tasks, stage, text_trains=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", ["plain_text", "caption_to_length", "length_to_caption"])
def test_a_frozen_text_stream_learns_nothing_from_words_alone(task: str) -> None:
    check_tasks({task: 1.0}, "3", text_trains=True)
    check_tasks({task: 0.0, "predict": 1.0}, "3", text_trains=False)
    with pytest.raises(MotionGPT3Error, match=f"^task {task} has no motion"):
        check_tasks({task: 1.0, "predict": 1.0}, "3", text_trains=False)
