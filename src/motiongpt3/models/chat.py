"""Conversations: the model itself decides when to speak and when to move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.lengths import parse_length
from motiongpt3.instructions.prompt import MAX_CHARACTERS, Message, Prompt, Slot, chat_pieces
from motiongpt3.models.bimodal import KVCache
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.decoding import GenerationConfig, TextDecoder, sentence, stop_tokens
from motiongpt3.models.network import Network, encode_motions, readable
from motiongpt3.models.request import DrawOptions, check_draw, check_seed
from motiongpt3.motion.motion import Motion

MAX_MESSAGES = 32
"""Messages of the longest conversation: a round number."""
MAX_MOTIONS = 8
"""Maximum motions in a conversation: a round number."""
SILENCE = "…"
"""An empty answer as a message of a conversation, where none may be empty."""

Chat = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Reply:
    """An answer: words, a motion, or both."""

    text: str
    motion: Motion | None = None

    @property
    def message(self) -> dict[str, Any]:
        """The answer as the next message of the conversation."""
        content = [part for part in (self.motion, self.text or None) if part is not None]
        return {"role": "assistant", "content": content or [SILENCE]}


@torch.inference_mode()
def answer(
    model: Network,
    messages: Chat,
    decoding: GenerationConfig | None,
    draw: DrawOptions,
) -> Reply:
    """See `MotionGPT3.chat`."""
    if model.config.stage == 1:
        raise MotionGPT3Error("this model was not trained to converse: it makes motions from words alone")
    turns, motions = read_messages(messages, model.config)
    seed, draw = check_seed(draw.seed), check_draw(model.config, draw)
    backbone = model.backbone
    row = model.question(Prompt(chat_pieces(turns, model.config.prompt_style), ()))
    logits, cache, places = model.prefill([row], encode_motions(model.vae, motions, model.config.fps))
    decoding = decoding or GenerationConfig()
    decoding = replace(decoding, beams=1, forbidden=(*decoding.forbidden, backbone.end_of_motion))
    decoder = TextDecoder(backbone, model.transformer)
    ends = [*stop_tokens(backbone, model.config.prompt_style), backbone.start_of_motion]
    [(said, ended)] = decoder.generate(logits, cache, places, decoding, ends, [seed])
    if ended != backbone.start_of_motion:
        return Reply(sentence(backbone.decode(said)))
    places = places + len(said)
    decoder.step(torch.full_like(places, backbone.start_of_motion), places, cache)
    told = told_frames(turns[-1], model.config)
    motion = _move(model, cache, places + 1, seed, draw, told)
    places = places + 1 + model.motion_tokens.outputs
    logits = decoder.step(torch.full_like(places, backbone.end_of_motion), places, cache)
    decoding = replace(decoding, forbidden=(*decoding.forbidden, backbone.start_of_motion))
    [(more, _)] = decoder.generate(logits, cache, places + 1, decoding, ends, [seed])
    return Reply(sentence(backbone.decode([*said, *more])), motion)


def _move(model: Network, cache: KVCache, places: Tensor, seed: int, draw: DrawOptions, told: int | None) -> Motion:
    """Draw an opened motion whose first token is at `places` (1,), `told` frames long or as the model decides."""
    frames = None if told is None else torch.full_like(places, told)
    logits, hidden = model.run_queries(cache, places, frames)
    frames = model.predicted_frames(logits) if frames is None else frames
    joints = model.joints(model.draw_latents(hidden, [seed], draw), frames)[0].cpu().numpy()
    return Motion(joints, model.config.fps, name=f"seed {seed}")


def told_frames(message: Message, config: MotionGPT3Config) -> int | None:
    """The frames that a message's length words ask for ("for three seconds"), kept to what the model can make.

    None without such words, and beside a motion: there they may speak of that.
    """
    if any(isinstance(part, Slot) for part in message.content):
        return None
    seconds = parse_length(" ".join(str(part) for part in message.content), config.fps)
    if seconds is None:
        return None
    return min(max(round(seconds * config.fps), config.vae.min_frames), config.vae.max_frames)


def read_messages(messages: Chat, config: MotionGPT3Config) -> tuple[list[Message], list[Motion]]:
    """A conversation's turns, and its motions in order.

    Raises:
        MotionGPT3Error: it is empty or too long, a message is not as it should be, or a motion cannot be read.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise MotionGPT3Error('a conversation is a list of messages such as {"role": "user", "content": "Hello"}')
    if not 1 <= len(messages) <= MAX_MESSAGES:
        raise MotionGPT3Error(f"a conversation has 1 to {MAX_MESSAGES} messages, not {len(messages)}")
    turns, motions = [], []
    for number, message in enumerate(messages, start=1):
        role, content = _parts(message, number)
        for part in content:
            if isinstance(part, Motion):
                motions.append(readable(part, config, f"the motion in message {number}")[: config.vae.max_frames])
            elif len(part) > MAX_CHARACTERS:
                raise MotionGPT3Error(f"message {number} has more than {MAX_CHARACTERS} characters: shorten it")
        turns.append(Message(role, tuple(Slot() if isinstance(part, Motion) else part for part in content)))
    if len(motions) > MAX_MOTIONS:
        raise MotionGPT3Error(f"a conversation may hold {MAX_MOTIONS} motions, not {len(motions)}")
    return turns, motions


def _parts(message: Any, number: int) -> tuple[Any, list[str | Motion]]:
    if not isinstance(message, Mapping) or message.get("role") not in ("user", "assistant"):
        raise MotionGPT3Error(f'message {number} must be {{"role": "user" or "assistant", "content": …}}')
    content = message.get("content")
    parts = [content] if isinstance(content, str | Motion) else content
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str | Motion) for part in parts):
        raise MotionGPT3Error(f"the content of message {number} must be text, a Motion, or a list of these")
    return message["role"], list(parts)
