"""Conversations: words, motions or both as the model decides, here as a script decides for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import Message, Prompt, Slot, chat_pieces
from motiongpt3.models.chat import Reply, read_messages, told_frames
from motiongpt3.models.decoding import GenerationConfig
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.network import encode_motions
from motiongpt3.models.request import DrawOptions
from motiongpt3.models.sequence import OutputMotion, TextPiece, pack
from motiongpt3.motion.motion import Motion

START, END, STOP = 30, 31, 0
WALKS, JUMPS, WAVES = 6, 8, 9
HELLO = [{"role": "user", "content": "a person"}]
Says = Callable[..., list[Tensor]]


@pytest.fixture
def says(reader: MotionGPT3, monkeypatch: pytest.MonkeyPatch) -> Says:
    """`says(token, …)`: what the model wants to write, one token after the other; returns the hidden states seen.

    What follows <start_of_motion> is a motion, so the script has no token for it.
    """

    def script(*tokens: int) -> list[Tensor]:
        seen: list[Tensor] = []
        behind = tokens.index(START) + 1 if START in tokens else len(tokens)
        wanted = iter([*tokens[:behind], 1, *tokens[behind:]])

        def logits(hidden: Tensor) -> Tensor:
            seen.append(hidden.clone())
            token = next(wanted)
            row = torch.zeros(len(hidden), 32)
            row[:, token] = 9.0
            row[:, WALKS] += 1.0  # the second choice
            return row

        monkeypatch.setattr(reader.backbone, "logits", logits)
        return seen

    return script


def test_words_alone(reader: MotionGPT3, says: Says) -> None:
    says(WALKS, JUMPS, STOP)
    reply = reader.chat(HELLO)
    assert reply == Reply("Walks jumps")
    assert reply.message == {"role": "assistant", "content": ["Walks jumps"]}


def test_a_motion_alone(reader: MotionGPT3, says: Says) -> None:
    says(START, STOP)
    reply = reader.chat(HELLO, seed=3)
    assert reply.text == ""
    assert reply.motion is not None
    assert (reply.motion.fps, reply.motion.name) == (20, "seed 3")
    assert reply.message["content"] == [reply.motion]


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("walk for three seconds", 60),
        ("walk with 43 frames", 43),
        ("walk for one minute", 100),
        ("walk for 0.2 seconds", 20),
    ],
)
def test_length_words_are_followed(reader: MotionGPT3, says: Says, text: str, frames: int) -> None:
    """Within what the model can make, 20 to 100 frames."""
    says(START, STOP)
    reply = reader.chat([{"role": "user", "content": text}])
    assert reply.motion is not None
    assert len(reply.motion) == frames


def test_length_words_beside_a_motion_speak_of_that(reader: MotionGPT3) -> None:
    message = Message("user", ("What happens for three seconds here?", Slot()))
    assert told_frames(message, reader.config) is None
    assert told_frames(Message("user", ("walk",)), reader.config) is None


@pytest.mark.parametrize("before", [[], [WALKS, JUMPS]])
def test_words_and_a_motion(reader: MotionGPT3, says: Says, before: list[int]) -> None:
    """The motion is that of one pass over everything said, and the words behind it see the motion."""
    seen = says(*before, START, WAVES, STOP)
    reply = reader.chat(HELLO, seed=5, guidance=1.5, steps=3)
    assert reply.text == ("Walks jumps waves" if before else "Waves")
    assert reply.motion is not None

    row = reader.question(Prompt(chat_pieces([Message("user", ("a person",))], "chatml"), ()))
    row = [*row, TextPiece(tuple(before)), OutputMotion(0), TextPiece((WAVES,))]
    nothing = encode_motions(reader.vae, [], 20)
    frames = torch.tensor([len(reply.motion)])
    with torch.no_grad():
        packed = pack([row], reader.motion_tokens)
        words, hidden = reader(packed, nothing, reader.query_tokens(frames))
        assert reader.predicted_frames(reader.predict_length(hidden[:, 0])).tolist() == frames.tolist()
        joints = reader.joints(reader.draw_latents(hidden[:, 1:], [5], DrawOptions(guidance=1.5, steps=3)), frames)[
            0
        ].numpy()
    np.testing.assert_allclose(reply.motion.joints, joints, atol=1e-4)
    # Hidden states of the tokens behind which something was written: before the motion, then its end and the word.
    count = packed.ids.shape[1]
    asked = [*seen[: len(before) + 1], *seen[-2:]]
    at = [*range(count - 4 - len(before), count - 3), -2, -1]
    assert packed.ids[0, -3:].tolist() == [START, END, WAVES]
    assert len(asked) == len(before) + 3
    for state, place in zip(asked, at, strict=True):
        torch.testing.assert_close(state[0], words[0, place], atol=1e-4, rtol=0)


def test_one_motion_an_answer_and_none_is_closed_that_was_not_opened(reader: MotionGPT3, says: Says) -> None:
    says(START, START, STOP)  # the second choice is taken instead
    assert reader.chat(HELLO).text == "Walks"
    says(END, STOP)
    reply = reader.chat(HELLO)
    assert (reply.text, reply.motion) == ("Walks", None)


def test_an_answer_that_does_not_end_is_cut(reader: MotionGPT3, says: Says) -> None:
    says(*[JUMPS] * 9)
    assert reader.chat(HELLO, decoding=GenerationConfig(max_tokens=3)).text == "Jumps jumps jumps"


def test_an_empty_answer_can_be_answered(reader: MotionGPT3, says: Says) -> None:
    says(STOP)
    reply = reader.chat(HELLO)
    assert reply == Reply("")
    says(JUMPS, STOP)
    assert reader.chat([*HELLO, reply.message, *HELLO]).text == "Jumps"


def test_own_settings_are_kept(reader: MotionGPT3, says: Says) -> None:
    says(JUMPS, STOP)
    assert reader.chat(HELLO, decoding=GenerationConfig(forbidden=(JUMPS,))).text == "Walks"
    says(*[JUMPS] * 20)
    drawn = [reader.chat(HELLO, GenerationConfig(temperature=9.0, max_tokens=5), seed=seed).text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_conversation_is_read_in_order_with_its_motions(
    reader: MotionGPT3, says: Says, motions: list[Motion]
) -> None:
    """A motion in a question, one in an answer, and words between."""
    seen = says(STOP)
    messages = [
        {"role": "user", "content": ["a person", motions[0], "walks"]},
        Reply("jumps", motions[1]).message,
        {"role": "user", "content": motions[2]},
    ]
    reader.chat(messages)
    turns = [
        Message("user", ("a person", Slot(), "walks")),
        Message("assistant", (Slot(), "jumps")),
        Message("user", (Slot(),)),
    ]
    row = reader.question(Prompt(chat_pieces(turns, "chatml"), ()))
    with torch.no_grad():
        words, _ = reader(pack([row], reader.motion_tokens), encode_motions(reader.vae, motions[:3], 20))
        other, _ = reader(pack([row], reader.motion_tokens), encode_motions(reader.vae, motions[2::-1], 20))
    torch.testing.assert_close(seen[0][0], words[0, -1], atol=1e-4, rtol=0)
    assert (seen[0][0] - other[0, -1]).abs().max() > 1e-3


def test_the_same_seed_gives_the_same_answer(reader: MotionGPT3, says: Says) -> None:
    replies = []
    for seed in (1, 1, 2):
        says(START, STOP)
        torch.manual_seed(len(replies))
        replies.append(reader.chat(HELLO, seed=seed))
    assert replies[0] == replies[1] != replies[2]


def test_long_motions_are_cut(reader: MotionGPT3, motions: list[Motion]) -> None:
    joints = motions[0].joints[np.arange(300) % 24]
    _, [cut] = read_messages([{"role": "user", "content": Motion(joints, 40)}], reader.config)
    assert (len(cut), cut.fps) == (100, 20)


USER = {"role": "user", "content": "jumps"}
ASSISTANT = {"role": "assistant", "content": "fine"}
STILL = Motion(np.zeros((30, 22, 3), np.float32) + np.linspace(0, 1.7, 22, dtype=np.float32)[:, None], 20)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hello", "a conversation is a list of messages"),
        (USER, "a conversation is a list of messages"),
        (None, "a conversation is a list of messages"),
        ([], "a conversation has 1 to 32 messages, not 0"),
        ([USER, ASSISTANT] * 17, "a conversation has 1 to 32 messages, not 34"),
        (["hello"], 'message 1 must be {"role": '),
        ([{"role": "system", "content": "x"}], 'message 1 must be {"role": '),
        ([{"role": "user"}], "the content of message 1 must be text"),
        ([{"role": "user", "content": [3]}], "the content of message 1 must be text"),
        ([{"role": "user", "content": ""}], "message 1 is empty"),
        ([{"role": "user", "content": []}], "message 1 is empty"),
        ([{"role": "user", "content": [" ", "\n"]}], "message 1 is empty"),
        ([{"role": "user", "content": "x" * 1001}], "message 1 has more than 1000 characters"),
        ([ASSISTANT], "message 1 is the assistant's"),
        ([USER, USER], "message 2 is the user's"),
        ([USER, ASSISTANT], "the last message must be the user's"),
        ([{"role": "user", "content": [STILL] * 9}], "a conversation may hold 8 motions, not 9"),
        ([USER, ASSISTANT, {"role": "user", "content": STILL[:19]}], r"the motion in message 3 has 0\.95 s"),
    ],
)
def test_what_is_no_conversation_is_one_line(reader: MotionGPT3, messages: Any, message: str) -> None:
    with pytest.raises(MotionGPT3Error, match=f"^{message}") as caught:
        reader.chat(messages)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"seed": "x"}, {"seed": -1}, {"guidance": math.nan}, {"guidance": "x"}, {"steps": 0}, {"steps": 2.5}]
)
def test_numbers_out_of_range_are_one_line(reader: MotionGPT3, arguments: dict[str, Any]) -> None:
    with pytest.raises(MotionGPT3Error, match=f"^{next(iter(arguments))} must be ") as caught:
        reader.chat(HELLO, **arguments)
    assert "\n" not in str(caught.value)


def test_a_model_of_stage_1_does_not_converse(tiny_model_dir: Path) -> None:
    with pytest.raises(MotionGPT3Error, match=r"^this model was not trained to converse"):
        MotionGPT3.from_pretrained(tiny_model_dir).chat(HELLO)


def test_a_plain_language_model_converses_too(reader: MotionGPT3, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "config", replace(reader.config, prompt_style="plain"))
    says(JUMPS, STOP)
    assert reader.chat([USER, ASSISTANT, USER]).text == "Jumps"
