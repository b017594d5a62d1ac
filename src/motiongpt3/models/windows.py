"""Windows of motion: what the model draws around frames that it has read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from motiongpt3.instructions.tasks import build
from motiongpt3.instructions.templates import Task
from motiongpt3.models.describing import question
from motiongpt3.models.layout import Drawn, lay_out
from motiongpt3.models.reading import encode
from motiongpt3.motion.motion import Motion

if TYPE_CHECKING:
    from motiongpt3.models.motiongpt3 import MotionGPT3


@torch.inference_mode()
def draw_window(
    model: MotionGPT3,
    before: Motion | None,
    after: Motion | None,
    frames: int,
    prompt: str | None,
    seed: int,
    guidance: float | None = None,
    steps: int | None = None,
) -> Motion:
    """A window of `frames` frames that begins roughly as `before` and ends roughly as `after`, at the model's rate.

    It lies at the origin. One of `before` and `after` is needed, as long as the model can read; a model that continues
    only forwards is given both or the first.

    Args:
        model: of stage 2 or later.
        before: what the window begins with.
        after: what it ends with.
        frames: of the whole window, at most the VAE's longest.
        prompt: what happens, or None.
        seed: of the drawing.
        guidance, steps: as in `MotionGPT3.generate`.

    Raises:
        MotionGPT3Error: a motion is too short or too long to be read, or the model reads no motions.
    """
    given = [motion for motion in (before, after) if motion is not None]
    task: Task = "inbetween" if len(given) == 2 else "predict"
    if prompt is not None:
        task = "inbetween_with_words" if len(given) == 2 else "predict_with_words"
    config = model.config
    asked = build(task, config.prompt_style, caption=prompt, frames=frames, fps=config.fps)
    layout = lay_out([[*question(model, asked), Drawn(0)]], model.motion_tokens)
    shown = encode(model.vae, given, config.fps)
    length = torch.tensor([frames], device=shown.frames.device)
    _, hidden = model(layout.to(length.device), shown, length)
    latents = model.draw_latents(hidden[:, 1:], [seed], guidance, steps)
    return Motion(model.joints(latents, length)[0].cpu().numpy(), config.fps, prompt, f"seed {seed}")
