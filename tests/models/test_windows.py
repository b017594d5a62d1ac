"""Windows: of the asked length, drawn around what was read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.tasks import build
from motiongpt3.models.describing import question
from motiongpt3.models.layout import Drawn, lay_out
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.reading import encode
from motiongpt3.models.windows import draw_window
from motiongpt3.motion.motion import Motion


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
    window = draw_window(reader, before, after, 70, prompt, 4, steps=3)
    assert (len(window), window.fps, window.caption) == (70, 20, prompt)
    row = [*question(reader, build(task, "chatml", caption=prompt)), Drawn(0)]  # type: ignore[arg-type]
    read = encode(reader.vae, [motion for motion in (before, after) if motion is not None], 20)
    told = torch.tensor([70])
    with torch.no_grad():
        _, hidden = reader(lay_out([row], reader.motion_tokens), read, told)
        joints = reader.joints(reader.draw_latents(hidden[:, 1:], [4], steps=3), told)[0].numpy()
    np.testing.assert_allclose(window.joints, joints, atol=1e-4)


def test_everything_given_counts(reader: MotionGPT3, motions: list[Motion]) -> None:
    def window(*given: Motion | None, frames: int = 40, prompt: str | None = None, seed: int = 0) -> Motion:
        return draw_window(reader, *given, frames, prompt, seed)

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
        draw_window(reader, motions[0][:19], None, 40, None, 0)
    with pytest.raises(MotionGPT3Error, match="it cannot read motions"):
        draw_window(MotionGPT3.from_pretrained(tiny_model_dir), motions[0], None, 40, None, 0)
