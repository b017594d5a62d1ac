"""Captions: the same alone, together and without a cache; long motions in parts; what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.templates import build
from motiongpt3.models.captioning import (
    LEVELS,
    SAMPLED,
    drawing_errors,
    rerank,
    split,
)
from motiongpt3.models.decoding import GenerationConfig, TextDecoder, sentence, stop_tokens
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.network import EncodedMotions, encode_motions
from motiongpt3.models.sequence import InputMotion, TextPiece, pack
from motiongpt3.motion.motion import Motion

DRAWN = GenerationConfig(temperature=4.0, max_tokens=8)
"""Hot enough for a random model to say different things."""


def long(frames: int, fps: float = 20.0) -> Motion:
    joints = np.zeros((frames, 22, 3), np.float32)
    joints[..., 1] = np.linspace(0, 1.7, 22)
    joints[..., 0] = np.arange(frames)[:, None]
    return Motion(joints, fps)


@pytest.mark.slow
def test_a_motion_is_a_sentence_and_several_are_a_list(reader: MotionGPT3, motions: list[Motion]) -> None:
    alone = [reader.caption(motion) for motion in motions]
    assert all(isinstance(text, str) and text == sentence(text) != "" for text in alone)
    assert len(set(alone)) > 1  # what is read matters
    assert reader.caption(motions) == alone
    assert reader.caption(motions[:1]) == alone[:1]


@pytest.mark.slow
def test_samples_come_motion_by_motion_each_with_its_own_seed(reader: MotionGPT3, motions: list[Motion]) -> None:
    three = reader.caption(motions[:2], samples=3, decoding=replace(DRAWN, seed=4))
    assert len(three) == 6
    assert len(set(three[:3])) == 3
    for i in range(2):
        for k in range(3):
            assert reader.caption(motions[i], decoding=replace(DRAWN, seed=4 + k)) == three[3 * i + k]
    torch.manual_seed(1)
    drawn = reader.caption(motions[0], samples=3, seed=4)
    torch.manual_seed(2)
    assert reader.caption(motions[0], samples=3, seed=4) == drawn
    assert reader.caption(motions[0], samples=3, seed=5)[:2] == drawn[1:]


def test_batches_change_nothing(reader: MotionGPT3, motions: list[Motion]) -> None:
    seen: list[int] = []

    def watch(batches: Any) -> Any:
        seen.extend(len(batch) for batch in batches)
        return iter(batches)

    many = [motions[number % 6] for number in range(35)]
    decoding = GenerationConfig(max_tokens=4)
    captions = reader.caption(many, decoding=decoding, progress=watch)
    assert seen == [32, 3]
    assert captions == [captions[number % 6] for number in range(35)]


@pytest.mark.parametrize("beams", [1, 3])
def test_logits_with_a_cache_in_a_batch_are_those_of_one_pass_each(
    reader: MotionGPT3, motions: list[Motion], beams: int
) -> None:
    """Within 1e-4, for questions of different lengths, several motions and every token written."""
    prompts = [
        [TextPiece((3, 4)), InputMotion(0), TextPiece((5, 6, 7))],
        [TextPiece((8,)), InputMotion(1), TextPiece((9,)), InputMotion(2), TextPiece((10, 11))],
        [TextPiece((12, 13, 14, 15, 16))],
    ]
    read = encode_motions(reader.vae, motions[:3], 20)
    with torch.inference_mode():
        logits, cache, places = reader.prefill(prompts, read)
        if beams > 1:
            table = torch.arange(3).repeat_interleave(beams)
            logits, cache, places = logits[table], cache.select(table), places[table]
        writer, written = TextDecoder(reader.backbone, reader.transformer), torch.randint(1, 20, (len(logits), 4))
        steps = [logits]
        for count in range(4):
            steps.append(writer.step(written[:, count], places + count, cache))
        for line in range(len(logits)):
            row = [*prompts[line // beams], TextPiece(tuple(written[line].tolist()))]
            used = [piece.motion for piece in row if isinstance(piece, InputMotion)]
            alone = [replace(p, motion=used.index(p.motion)) if isinstance(p, InputMotion) else p for p in row]
            given_here = type(read)(read.latents[used], read.frames[used])
            said, _ = reader(pack([alone], reader.motion_tokens), given_here)
            whole = reader.backbone.logits(said[0])[-5:]
            torch.testing.assert_close(torch.stack([step[line] for step in steps]), whole, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_caption_is_what_the_model_writes_behind_its_question(reader: MotionGPT3, motions: list[Motion]) -> None:
    """Greedy, by whole passes: prompt, motion, and each word in turn."""
    row = reader.question(build("motion_to_caption", "chatml"))
    read = encode_motions(reader.vae, motions[3:4], 20)
    written: list[int] = []
    while len(written) < 60:
        with torch.no_grad():
            said, _ = reader(pack([[*row, TextPiece(tuple(written))]], reader.motion_tokens), read)
        logits = reader.backbone.logits(said[0, -1])[:30]  # never one of the two special tokens
        if int(logits.argmax()) in stop_tokens(reader.backbone, reader.config.prompt_style):
            break
        written.append(int(logits.argmax()))
    assert reader.caption(motions[3]) == sentence(reader.backbone.decode(written))


@pytest.mark.slow
def test_no_special_token_is_written(reader: MotionGPT3, motions: list[Motion], monkeypatch: Any) -> None:
    """However much the model wants to; words behind it would be about a motion that is not there."""
    kept = type(reader.backbone).logits

    def eager(hidden: torch.Tensor) -> torch.Tensor:
        logits = kept(reader.backbone, hidden)
        return torch.cat([logits[..., :-2], logits[..., -2:] + 100], -1)

    plain = [reader.caption(motions[0], beams=beams) for beams in (1, 2)]
    monkeypatch.setattr(reader.backbone, "logits", eager)
    assert [reader.caption(motions[0], beams=beams) for beams in (1, 2)] == plain


@pytest.mark.slow
def test_a_long_motion_is_described_in_parts(reader: MotionGPT3) -> None:
    motion = long(250)
    parts = split(motion, reader.config)
    assert [len(part) for part in parts] == [83, 83, 84]
    assert np.array_equal(np.concatenate([part.joints for part in parts]), motion.joints)
    assert reader.caption(motion) == " ".join(reader.caption(part) for part in parts)
    assert len(split(long(100), reader.config)) == 1
    assert len(split(long(101), reader.config)) == 2


@pytest.mark.slow
@given(frames=st.integers(20, 700), fps=st.sampled_from([10.0, 20.0, 24.0, 29.97, 120.0]))
def test_parts_can_be_read(reader: MotionGPT3, frames: int, fps: float) -> None:
    motion, vae = long(frames, fps), reader.config.vae
    there = motion.resample(20)
    if len(there) < vae.min_frames:
        with pytest.raises(MotionGPT3Error, match="the model reads 1 s or more"):
            split(motion, reader.config)
        return
    parts = split(motion, reader.config)
    assert all(vae.min_frames <= len(part) <= vae.max_frames for part in parts)
    assert sum(len(part) for part in parts) == len(there)
    assert len(parts) == -(-len(there) // vae.max_frames)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"motion": []}, "there is no motion to describe"),
        ({"motion": None}, "give a Motion or a list of them, not NoneType"),
        ({"motion": [1]}, "the motion must be a Motion, not int"),
        ({"motion": long(19)}, r"the motion has 0\.95 s; the model reads 1 s or more"),
        ({"samples": 0}, "samples must be a whole number from 1 to 100, not 0"),
        ({"samples": 1.0}, "samples must be a whole number"),
        ({"beams": 0}, "beams must be a whole number from 1 to 64, not 0"),
        ({"beams": 2, "samples": 2}, "several captions of a motion are drawn"),
        ({"decoding": GenerationConfig(), "samples": 2}, "several captions of a motion are drawn"),
        ({"seed": "x"}, "seed must be a whole number"),
    ],
)
def test_what_cannot_be_described_is_one_line(reader: MotionGPT3, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MotionGPT3Error, match=f"^{message}") as caught:
        reader.caption(**{"motion": long(30), **arguments})
    assert "\n" not in str(caught.value)


def test_a_model_of_stage_1_reads_no_motion(tiny_model_dir: Path, motions: list[Motion]) -> None:
    model = MotionGPT3.from_pretrained(tiny_model_dir)
    for call in (lambda: model.caption(motions), lambda: model.caption(motions[0], beams=2)):
        with pytest.raises(MotionGPT3Error, match=r"^this model was trained for text to motion alone") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_tokenizer_without_the_turns_end_still_stops(reader: MotionGPT3, monkeypatch: Any) -> None:
    """A plain turn ends with a line break, which this tokenizer drops."""
    monkeypatch.setattr(reader, "config", replace(reader.config, prompt_style="plain"))
    assert stop_tokens(reader.backbone, reader.config.prompt_style) == [reader.backbone.eos_id]


TEXTS = ["someone walks", "a person turns left and then waves", "someone walks", "they sit"]


@pytest.fixture
def given_words(reader: MotionGPT3, motions: list[Motion]) -> EncodedMotions:
    return encode_motions(reader.vae, motions[:4], 20)


def test_a_caption_weighs_the_same_alone_and_among_others(reader: MotionGPT3, given_words: EncodedMotions) -> None:
    together = drawing_errors(reader, TEXTS, given_words)
    alone = [
        drawing_errors(reader, [text], EncodedMotions(*(part[i : i + 1] for part in given_words)))
        for i, text in enumerate(TEXTS)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    same = drawing_errors(
        reader, TEXTS, EncodedMotions(given_words.latents[:1].expand(4, -1, -1), given_words.frames[:1].expand(4))
    )
    assert same[0] == same[2]
    assert len(set(same.tolist())) == 3


def test_what_is_weighed_is_the_error_of_the_head_at_every_level(
    reader: MotionGPT3, given_words: EncodedMotions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that always predicts its target makes no error, whatever the caption."""
    asked: list[float] = []
    kept = reader.head.errors

    def watch(condition: Any, latents: Any, noise: Any, level: Any) -> Any:
        asked.append(float(level[0]))
        monkeypatch.setattr(reader.head, "predict", lambda noisy, time, told: noise - latents)
        return kept(condition, latents, noise, level)

    monkeypatch.setattr(reader.head, "errors", watch)
    assert drawing_errors(reader, TEXTS, given_words).abs().max() == 0
    assert len(asked) == LEVELS
    assert asked == sorted(asked)
    assert 0 < asked[0] < asked[-1] < 1


def test_the_fittest_is_kept(reader: MotionGPT3, given_words: EncodedMotions) -> None:
    for number in range(3):
        mine = EncodedMotions(*(part[number : number + 1] for part in given_words))
        best = rerank(reader, mine, ["", *TEXTS])
        assert best == min(TEXTS, key=lambda text: float(drawing_errors(reader, [text], mine)))
        for texts, kept in ((["", ""], ""), (["", "one"], "one"), (["two", "two"], "two")):
            assert rerank(reader, mine, texts) == kept


@pytest.mark.slow
def test_of_drawn_captions_the_fittest_is_given(
    reader: MotionGPT3, motions: list[Motion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts may differ from captions in full precision; with the same weights they are the same."""
    monkeypatch.setattr("motiongpt3.models.captioning.half_precision", lambda backbone: backbone)
    many = reader.caption(motions[:2], samples=5, decoding=replace(SAMPLED, seed=3))
    wanted = [
        rerank(reader, encode_motions(reader.vae, [motion], 20), texts)
        for motion, texts in zip(motions, (many[:5], many[5:]), strict=False)
    ]
    assert reader.caption(motions[:2], candidates=5, seed=3) == wanted


@pytest.mark.slow
def test_a_caption_is_the_same_alone_and_among_others(reader: MotionGPT3, motions: list[Motion]) -> None:
    seen: list[int] = []

    def watch(parts: Any) -> Any:
        seen.append(len(parts))
        return iter(parts)

    together = reader.caption(motions, candidates=3, seed=1, progress=watch)
    assert seen == [6]
    assert together == [reader.caption(motion, candidates=3, seed=1) for motion in motions]
    assert reader.caption(motions, candidates=3, seed=2) != together


@pytest.mark.slow
def test_the_configuration_says_how_many_are_drawn(
    reader: MotionGPT3, motions: list[Motion], monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy, drawn = reader.caption(motions[0]), reader.caption(motions[0], candidates=4)
    seen: list[int] = []

    def watch(*arguments: Any) -> str:
        seen.append(len(arguments[2]))
        return rerank(*arguments)

    monkeypatch.setattr("motiongpt3.models.captioning.rerank", watch)
    monkeypatch.setattr(reader, "config", replace(reader.config, candidates=4))
    assert reader.caption(motions[0]) == drawn
    assert seen == [4]
    assert reader.caption(motions[0], candidates=1) == greedy
    reader.caption(motions[0], samples=2)
    reader.caption(motions[0], beams=2)
    assert seen == [4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidates": 0}, "candidates must be a whole number from 1 to 100, not 0"),
        ({"candidates": 2.0}, "candidates must be a whole number"),
        ({"candidates": 2, "samples": 2}, "candidates are drawn and one is kept: leave out samples"),
        ({"candidates": 2, "beams": 2}, "candidates are drawn and one is kept"),
    ],
)
def test_what_cannot_be_weighed_is_one_line(
    reader: MotionGPT3, motions: list[Motion], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(MotionGPT3Error, match=f"^{message}") as caught:
        reader.caption(motions[0], **arguments)
    assert "\n" not in str(caught.value)
