"""Guo et al.'s evaluator: the official numbers, and what packing means."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.guo import GuoConfig, GuoEvaluator
from motiongpt3.serialization import write_folder

TINY = GuoConfig(word_channels=6, text_width=8, movement_width=5, movement_channels=7, motion_width=10, channels=9)


@pytest.fixture
def evaluator() -> GuoEvaluator:
    torch.manual_seed(0)
    return GuoEvaluator(TINY).eval().requires_grad_(False)


def clips(lengths: list[int], frames: int) -> tuple[Tensor, Tensor]:
    features = torch.randn(len(lengths), frames, 263, generator=torch.Generator().manual_seed(1))
    for clip, length in zip(features, lengths, strict=True):
        clip[length:] = 0
    return features, torch.tensor(lengths)


def test_order_in_the_batch_does_not_matter(evaluator: GuoEvaluator) -> None:
    features, lengths = clips([12, 40, 25, 4], 40)
    order = torch.tensor([2, 0, 3, 1])
    for packed in (True, False):
        whole = evaluator.embed_motion(features, lengths, packed)
        torch.testing.assert_close(evaluator.embed_motion(features[order], lengths[order], packed), whole[order])
    words, classes = torch.randn(3, 7, 6), torch.eye(15)[torch.randint(15, (3, 7))]
    lengths = torch.tensor([2, 7, 4])
    whole = evaluator.embed_text(words, classes, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone = evaluator.embed_text(words[i : i + 1, :length], classes[i : i + 1, :length], lengths[i : i + 1])
        torch.testing.assert_close(alone[0], whole[i])


def test_packing_stops_at_the_clip_s_end(evaluator: GuoEvaluator) -> None:
    """More padding changes the unpacked embedding only; a clip that fills its batch has one embedding."""
    features, lengths = clips([20, 32], 40)
    longer = torch.cat([features, torch.zeros(2, 20, 263)], dim=1)
    torch.testing.assert_close(evaluator.embed_motion(longer, lengths), evaluator.embed_motion(features, lengths))
    unpacked = [evaluator.embed_motion(x, lengths, packed=False) for x in (features, longer)]
    assert (unpacked[0] - unpacked[1]).abs().max() > 1e-4
    full, lengths = clips([40, 40], 40)
    torch.testing.assert_close(
        evaluator.embed_motion(full, lengths), evaluator.embed_motion(full, lengths, packed=False)
    )


def test_foot_contacts_are_not_seen(evaluator: GuoEvaluator) -> None:
    features, lengths = clips([24], 24)
    changed = features.clone()
    changed[..., -4:] += 1
    assert torch.equal(evaluator.embed_motion(changed, lengths), evaluator.embed_motion(features, lengths))


def test_lengths_that_do_not_fit(evaluator: GuoEvaluator) -> None:
    features, _ = clips([24, 24], 24)
    for lengths in ([3, 24], [24, 25], [24], [24, 24, 24]):
        with pytest.raises(MotionGPT3Error, match="2 numbers of frames, each 4 to 24"):
            evaluator.embed_motion(features, torch.tensor(lengths))
    with pytest.raises(MotionGPT3Error, match="numbers of words"):
        evaluator.embed_text(torch.zeros(1, 3, 6), torch.zeros(1, 3, 15), torch.tensor([0]))


def test_saving_and_loading(evaluator: GuoEvaluator, tmp_path: Path) -> None:
    evaluator.feature_mean.fill_(2)
    evaluator.feature_std.fill_(4)
    evaluator.save(tmp_path / "e")
    loaded = GuoEvaluator.load(tmp_path / "e")
    features, lengths = clips([24, 20], 24)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in evaluator.state_dict().items())
    # Tensors mapped from a file lie at other addresses, and some kernels round by alignment.
    torch.testing.assert_close(loaded.embed_motion(features, lengths), evaluator.embed_motion(features, lengths))
    assert torch.equal(loaded.normalise(torch.full((263,), 6.0)), torch.ones(263))
    assert not loaded.training
    write_folder(tmp_path / "vae", {"format": 1, "vae": {}}, {})
    with pytest.raises(MotionGPT3Error, match="is no evaluator"):
        GuoEvaluator.load(tmp_path / "vae")
    write_folder(tmp_path / "e", {"format": 1, "guo_evaluator": {**asdict(TINY), "channels": 8}}, loaded.state_dict())
    with pytest.raises(MotionGPT3Error, match="has shape"):
        GuoEvaluator.load(tmp_path / "e")
