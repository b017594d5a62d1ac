"""predict, inbetween, compose: given frames bit for bit, any length, any frame rate, windows of the model's size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from people import person

from motiongpt3 import Motion, MotionGPT3, MotionGPT3Error
from motiongpt3.instructions.templates import build
from motiongpt3.models import completion as continuing
from motiongpt3.models.completion import SLACK, Propose
from motiongpt3.models.network import encode_motions
from motiongpt3.models.request import DrawOptions, MotionRequest
from motiongpt3.models.sequence import OutputMotion, pack
from motiongpt3.motion.quality import bone_variation, seam_jerk


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> MotionGPT3:
    return MotionGPT3.from_pretrained(tiny_model_dir)


class DrawnWindow:
    """Draws a made-up walker, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int, str | None, int]] = []

    def __call__(
        self, before: Motion | None, after: Motion | None, frames: int, prompt: str | None, seed: int
    ) -> Motion:
        lengths = [0 if given is None else len(given) for given in (before, after)]
        assert all(given is None or given.fps == 20 for given in (before, after))
        self.asked.append((*lengths, frames, prompt, seed))
        return Motion(person(frames, speed=1.0, seed=seed))


def walker(frames: int, fps: float = 20.0, seed: int = 0) -> Motion:
    return Motion(person(frames, speed=1.0, seed=seed)).resample(fps)


@pytest.mark.slow
@given(seconds=st.floats(0.01, 12), fps=st.sampled_from([20.0, 20.0, 30.0, 60.0, 17.3, 120.0, 12.5]))
@settings(max_examples=25, deadline=None)
def test_predict_keeps_what_is_given_and_adds_what_is_asked(model: MotionGPT3, seconds: float, fps: float) -> None:
    motion, draw = walker(60, fps), DrawnWindow()
    longer = continuing.predict(model, motion, seconds, draw=DrawOptions(5), propose=draw)
    assert np.array_equal(longer.joints[: len(motion)], motion.joints)
    assert len(longer) == len(motion) + max(round(seconds * fps), 1)
    assert longer.fps == fps
    assert seam_jerk(longer, [len(motion)], 3) / fps**3 < 0.14 * max(1, 20 / fps) ** 3
    assert bone_variation(longer) < bone_variation(motion) + 0.2
    for number, (before, after, frames, prompt, seed) in enumerate(draw.asked):
        assert (before, after, prompt, seed) == (40, 0, None, 5 + number)
        assert frames <= model.config.vae.max_frames


@pytest.mark.slow
@given(seconds=st.floats(0.05, 9), fps=st.sampled_from([20.0, 30.0, 60.0, 17.3]))
@settings(max_examples=25, deadline=None)
def test_inbetween_keeps_both_sides(model: MotionGPT3, seconds: float, fps: float) -> None:
    start, draw = walker(44, fps), DrawnWindow()
    end = walker(44, fps, seed=2)
    end = end.replace(joints=end.joints + start.joints[-1, 0] * [1, 0, 1] + np.array([0, 0, seconds], np.float32))
    whole = continuing.inbetween(model, start, end, seconds, "a person walks", propose=draw)
    assert np.array_equal(whole.joints[: len(start)], start.joints)
    assert np.array_equal(whole.joints[-len(end) :], end.joints)
    assert len(whole) == len(start) + max(round(seconds * fps), 1) + len(end)
    assert all(frames <= model.config.vae.max_frames for _, _, frames, _, _ in draw.asked)
    speed = np.linalg.norm(np.diff(whole.joints[:, 0], axis=0), axis=-1).max() * fps
    assert speed < 4 or seconds < 0.5, "the path meets the end without a jump"


def test_the_frames_between_do_not_depend_on_where_things_happen(model: MotionGPT3) -> None:
    here = continuing.predict(model, walker(50), 2, propose=DrawnWindow())
    moved = walker(50).joints[..., [2, 1, 0]] * np.array([1, 1, -1], np.float32) + np.array([3, 1, -7], np.float32)
    there = continuing.predict(model, Motion(moved), 2, propose=DrawnWindow())
    back = (there.joints - [3, 1, -7])[..., [2, 1, 0]] * [-1, 1, 1]
    assert np.abs(back - here.joints).max() < 1e-3


def test_compose_gives_each_prompt_its_span(model: MotionGPT3) -> None:
    draw = DrawnWindow()
    prompts: list[Any] = [("a person walks", 1), ("a person jumps", 7.5), "somebody waves", ("a person walks", 0.05)]
    motion, spans = continuing.compose(model, prompts, DrawOptions(3), propose=draw)
    assert [span.prompt for span in spans] == [item if isinstance(item, str) else item[0] for item in prompts]
    assert [span.end - span.start for span in spans[:2]] == [20, 150]
    assert spans[3].end - spans[3].start == 1
    assert [span.start for span in spans[1:]] == [span.end for span in spans[:-1]]
    assert spans[-1].end == len(motion)
    assert max(frames for _, _, frames, _, _ in draw.asked) <= model.config.vae.max_frames
    assert len({seed for *_, seed in draw.asked}) == len(draw.asked), "no window repeats the noise of another"
    assert max(seam_jerk(motion, [span.start], 3) for span in spans[1:]) / 8000 < 0.14


@pytest.mark.slow
def test_thirty_prompts_and_no_drift_off_the_floor(model: MotionGPT3) -> None:
    motion, spans = continuing.compose(model, [("a person walks", 2)] * 30, propose=DrawnWindow())
    assert len(spans) == 30
    lowest = motion.joints[..., 1].min(axis=1)
    assert abs(lowest[-100:].min() - lowest[:100].min()) < 0.02


def test_the_models_own_windows(model: MotionGPT3) -> None:
    start = model.predict(walker(30), 1.5, "a person jumps", seed=1)
    assert len(start) == 60
    assert np.array_equal(start.joints, model.predict(walker(30), 1.5, "a person jumps", seed=1).joints)
    assert not np.array_equal(start.joints, model.predict(walker(30), 1.5, "a person jumps", seed=2).joints)
    assert start.caption == "a person jumps"
    assert len(model.inbetween(walker(30), walker(30), 2)) == 100
    assert len(model.compose([("a person walks", 6.0), ("a person jumps", 1.0)])) == 140


def test_new_words_are_drawn_anew_and_the_rest_is_read(
    reader: MotionGPT3, motions: list[Motion], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def window(before: Motion, after: Motion | None, frames: int, *_: Any) -> Motion:
        drawn.append("reads")
        return walker(frames)

    def draw_motions(requests: list[MotionRequest], _: DrawOptions) -> list[Motion]:
        drawn.extend(request.prompt for request in requests)
        return [walker(request.frames or 0) for request in requests]

    monkeypatch.setattr(reader, "draw_window", window)
    monkeypatch.setattr(reader, "draw_motions", draw_motions)
    most, given = reader.config.vae.max_frames / 20, motions[0]

    def what(run: Any) -> list[str]:
        drawn.clear()
        run()
        return list(drawn)

    assert set(what(lambda: continuing.predict(reader, given, most))) == {"reads"}
    with_words = what(lambda: continuing.predict(reader, given, 2 * most, "someone sits"))
    assert with_words == ["someone sits"] + ["reads"] * (len(with_words) - 1)
    assert len(with_words) > 1
    assert what(lambda: continuing.inbetween(reader, given, motions[1], 0.5, "someone sits")) == ["reads"]
    scene = what(lambda: continuing.compose(reader, [("one", 2 * most), ("two", 0.5), ("two", 0.5)]))
    assert [words for words in scene if words != "reads"] == ["one", "two", "two"]
    assert scene[1] == "reads"


def test_windows_are_about_equal(model: MotionGPT3) -> None:
    draw: Propose = DrawnWindow()
    continuing.predict(model, walker(60), 5.5, propose=draw)
    asked = draw.asked  # type: ignore[attr-defined]
    assert [frames - 40 - SLACK for _, _, frames, _, _ in asked] == [37, 37, 36]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.predict(walker(19), 1), "0.95 s; the model reads 1 s or more"),
        (lambda m: m.predict(walker(40), 0), "seconds must be more than 0"),
        (lambda m: m.predict(walker(40), float("nan")), "seconds must be more than 0"),
        (lambda m: m.predict(walker(40), 1e7), "at most 9998, not 1e"),
        (lambda m: m.predict(walker(40), "3"), "seconds must be a number"),
        (lambda m: m.predict(walker(40), 1, " "), "prompt"),
        (lambda m: m.predict(walker(40), 1, seed=-1), "seed must be"),
        (lambda m: m.predict(walker(40).joints, 1), "must be a Motion, not ndarray"),
        (lambda m: m.inbetween(walker(40), walker(10), 1), "after the gap has 0.5 s"),
        (lambda m: m.inbetween(walker(40), walker(40, 30), 1), "20 and 30 frames per second; resample"),
        (lambda m: m.inbetween(walker(40), walker(40), -1), "seconds must be more than 0"),
        (lambda m: m.compose([]), "there is no prompt"),
        (lambda m: m.compose("walk"), "takes a list"),
        (lambda m: m.compose([("walk", 2, 3)]), "text or"),
        (lambda m: m.compose(["walk", ("jump", 0)]), "seconds must be more than 0"),
        (lambda m: m.compose(["a person walks"] * 5000), "more than the 200000 frames"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(model: MotionGPT3, call: Any, words: str) -> None:
    with pytest.raises(MotionGPT3Error, match=words) as caught:
        call(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "prompt", "task"),
    [
        ((0, None), None, "predict"),
        ((0, None), "jumps.", "predict_with_words"),
        ((0, 1), None, "inbetween"),
        ((0, 1), "jumps.", "inbetween_with_words"),
    ],
)
def test_a_window_is_drawn_behind_the_tasks_question(
    reader: MotionGPT3, motions: list[Motion], given: tuple[int | None, ...], prompt: str | None, task: str
) -> None:
    before, after = (None if number is None else motions[number] for number in given)
    window = reader.draw_window(before, after, 70, prompt, 4, DrawOptions(steps=3))
    assert (len(window), window.fps, window.caption) == (70, 20, prompt)
    row = [*reader.question(build(task, "chatml", caption=prompt)), OutputMotion(0)]  # type: ignore[arg-type]
    read = encode_motions(reader.vae, [motion for motion in (before, after) if motion is not None], 20)
    told = torch.tensor([70])
    with torch.no_grad():
        _, hidden = reader(pack([row], reader.motion_tokens), read, reader.query_tokens(told))
        joints = reader.joints(reader.draw_latents(hidden[:, 1:], [4], DrawOptions(steps=3)), told)[0].numpy()
    np.testing.assert_allclose(window.joints, joints, atol=1e-4)


def test_everything_given_counts(reader: MotionGPT3, motions: list[Motion]) -> None:
    def window(*given: Motion | None, frames: int = 40, prompt: str | None = None, seed: int = 0) -> Motion:
        return reader.draw_window(*given, frames, prompt, seed)

    plain = window(motions[0], motions[1])
    assert window(motions[0], motions[1]) == plain
    for other in (
        window(motions[0], None),
        window(motions[1], motions[0]),
        window(motions[0], motions[1], seed=1),
        window(motions[0], motions[1], prompt="jumps."),
        window(motions[0], motions[1], frames=60)[:40],
    ):
        assert np.abs(other.joints - plain.joints).max() > 1e-4


def test_what_cannot_be_read_is_refused(reader: MotionGPT3, tiny_model_dir: Path, motions: list[Motion]) -> None:
    with pytest.raises(MotionGPT3Error, match="the model reads motions of 1 to 5 seconds"):
        reader.draw_window(motions[0][:19], None, 40, None, 0)
    with pytest.raises(MotionGPT3Error, match="it cannot read motions"):
        MotionGPT3.from_pretrained(tiny_model_dir).draw_window(motions[0], None, 40, None, 0)
