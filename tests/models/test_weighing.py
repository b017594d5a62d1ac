"""Captions weighed by the motion they lead to: the same alone and together; the best is kept; what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.describing import SAMPLED
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.reading import Motions, encode
from motiongpt3.models.weighing import LEVELS, fittest, misfit
from motiongpt3.motion.motion import Motion

TEXTS = ["someone walks", "a person turns left and then waves", "someone walks", "they sit"]


@pytest.fixture
def given(reader: MotionGPT3, motions: list[Motion]) -> Motions:
    return encode(reader.vae, motions[:4], 20)


def test_a_caption_weighs_the_same_alone_and_among_others(reader: MotionGPT3, given: Motions) -> None:
    together = misfit(reader, TEXTS, given)
    alone = [misfit(reader, [text], Motions(*(part[i : i + 1] for part in given))) for i, text in enumerate(TEXTS)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    same = misfit(reader, TEXTS, Motions(given.latents[:1].expand(4, -1, -1), given.frames[:1].expand(4)))
    assert same[0] == same[2]
    assert len(set(same.tolist())) == 3


def test_what_is_weighed_is_the_error_of_the_head_at_every_level(
    reader: MotionGPT3, given: Motions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that always predicts its target has no misfit, whatever the caption."""
    asked: list[float] = []
    kept = reader.head.errors

    def watch(condition: Any, latents: Any, noise: Any, level: Any) -> Any:
        asked.append(float(level[0]))
        monkeypatch.setattr(reader.head, "predict", lambda noisy, time, told: noise - latents)
        return kept(condition, latents, noise, level)

    monkeypatch.setattr(reader.head, "errors", watch)
    assert misfit(reader, TEXTS, given).abs().max() == 0
    assert len(asked) == LEVELS
    assert asked == sorted(asked)
    assert 0 < asked[0] < asked[-1] < 1


def test_the_fittest_is_kept(reader: MotionGPT3, given: Motions) -> None:
    for number in range(3):
        mine = Motions(*(part[number : number + 1] for part in given))
        best = fittest(reader, mine, ["", *TEXTS])
        assert best == min(TEXTS, key=lambda text: float(misfit(reader, [text], mine)))
        for texts, kept in ((["", ""], ""), (["", "one"], "one"), (["two", "two"], "two")):
            assert fittest(reader, mine, texts) == kept


def test_of_drawn_captions_the_fittest_is_given(
    reader: MotionGPT3, motions: list[Motion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts may differ from captions in full precision; with the same weights they are the same."""
    monkeypatch.setattr("motiongpt3.models.describing.half_precision", lambda backbone: backbone)
    many = reader.caption(motions[:2], samples=5, decoding=replace(SAMPLED, seed=3))
    wanted = [
        fittest(reader, encode(reader.vae, [motion], 20), texts)
        for motion, texts in zip(motions, (many[:5], many[5:]), strict=False)
    ]
    assert reader.caption(motions[:2], candidates=5, seed=3) == wanted


def test_a_caption_is_the_same_alone_and_among_others(reader: MotionGPT3, motions: list[Motion]) -> None:
    seen: list[int] = []

    def watch(parts: Any) -> Any:
        seen.append(len(parts))
        return iter(parts)

    together = reader.caption(motions, candidates=3, seed=1, progress=watch)
    assert seen == [6]
    assert together == [reader.caption(motion, candidates=3, seed=1) for motion in motions]
    assert reader.caption(motions, candidates=3, seed=2) != together


def test_the_configuration_says_how_many_are_drawn(
    reader: MotionGPT3, motions: list[Motion], monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy, drawn = reader.caption(motions[0]), reader.caption(motions[0], candidates=4)
    seen: list[int] = []

    def watch(*arguments: Any) -> str:
        seen.append(len(arguments[2]))
        return fittest(*arguments)

    monkeypatch.setattr("motiongpt3.models.describing.fittest", watch)
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
