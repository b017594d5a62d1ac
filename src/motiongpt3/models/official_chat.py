"""A converted model answers freely: it writes until it opens a motion or ends the text.

The official code never lets the model decide: its caller appends the holders of a motion or does not. The model was
trained on strings that hold both, so it can. It knows single questions, not conversations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from motiongpt3.instructions.official import asked_motion, given_motion
from motiongpt3.models.chatting import Chat, Reply, read_messages
from motiongpt3.models.describing import sentence
from motiongpt3.models.official_sequence import OfficialRows, token_ids, without_names
from motiongpt3.models.request import check_drawing, check_seed
from motiongpt3.models.writing import Decoding, Writer
from motiongpt3.motion.motion import Motion

if TYPE_CHECKING:
    from motiongpt3.models.official import OfficialMotionGPT3


@torch.inference_mode()
def answer_last_message(
    model: OfficialMotionGPT3,
    messages: Chat,
    seed: int = 0,
    decoding: Decoding | None = None,
    guidance: float | None = None,
    steps: int | None = None,
) -> Reply:
    """The answer to the last message, with at most one motion, which ends it; arguments as in `MotionGPT3.chat`."""
    turns, motions = read_messages(messages, model.config)
    seed = check_seed(seed)
    guidance, steps = check_drawing(model.config, guidance, steps)
    backbone, count = model.backbone, model.config.queries
    asked = turns[-1].content
    words = [without_names(piece) if isinstance(piece, str) else given_motion(count) for piece in asked]
    ids = token_ids(backbone, "".join(words) + " \n")
    attached = motions[len(motions) - sum(not isinstance(piece, str) for piece in asked) :]
    given = [model.read_motions(attached, seed)[:, 0]] if attached else []

    logits, cache = model.read_rows(OfficialRows.of(backbone, [ids]), given)
    start = backbone.start_of_motion
    decoding = decoding or Decoding(max_tokens=40, repetition_penalty=1.1)
    decoding = replace(decoding, forbidden=(*decoding.forbidden, backbone.end_of_motion))
    writer = Writer(backbone, model.transformer)
    said, ended = writer.speak(logits, cache, cache.next_position(), decoding, [backbone.eos_id, start], seed)
    text = sentence(backbone.decode(said))
    if ended != start:
        return Reply(text)
    row = [*ids, *said, *token_ids(backbone, asked_motion(count))[:-1]]
    hidden = model.think_ahead(OfficialRows.of(backbone, [row]), given)
    latents = model.draw_latents(hidden, [seed], guidance, steps)
    joints = model.decode(latents, [model.length(seed)])[0]
    return Reply(text, Motion(joints, model.config.fps, name=f"seed {seed}"))
