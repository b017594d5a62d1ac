"""The evaluator's network: padding, order and redundant channels do not matter; what happens does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from motiongpt3.checkpoints.folder import WEIGHTS
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.tmr import PACE, TMR, TMRConfig
from motiongpt3.motion.features import feature_slices


@pytest.fixture
def network(tiny_evaluator_dir: Path) -> TMR:
    return TMR.load(tiny_evaluator_dir)


def clips(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, 263, generator=generator) for length in lengths]


def test_padding_and_order_do_not_matter(network: TMR) -> None:
    several = clips(12, 40, 1, 25, 8)
    lengths = torch.tensor([12, 40, 1, 25, 8])
    padded = pad_sequence(several, True, 7.0)
    vectors = network.embed_features(padded, lengths)
    assert vectors.shape == (5, 8)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(network.embed_features(padded.flip(0), lengths.flip(0)).flip(0), vectors)
    for clip, vector in zip(several, vectors, strict=True):
        torch.testing.assert_close(network.embed_clips([clip])[0], vector)
    many = network.embed_clips([*several] * (PACE // 5 + 1))
    torch.testing.assert_close(many[:5], vectors)
    assert network.embed_clips([]).shape == (0, 8)


def test_a_long_motion_is_seen_to_its_end(network: TMR) -> None:
    clip = clips(100)[0]
    clip[[35, 65], 3] = -9  # the floor, in every part
    whole = network.embed_clips([clip])[0]
    parts = network.embed_clips([clip[:40], clip[30:70], clip[60:]])
    torch.testing.assert_close(whole, torch.nn.functional.normalize(parts.mean(0), dim=0), rtol=1e-4, atol=1e-5)
    changed = clip.clone()
    changed[90:] = 0
    assert (network.embed_clips([changed])[0] - whole).abs().max() > 1e-3


def test_only_what_places_the_joints_is_read(network: TMR) -> None:
    (clip,) = clips(30)
    whole, where = network.embed_clips([clip]), feature_slices()
    other = clip.clone()
    other[:, where.rotations.start :] = 5.0
    torch.testing.assert_close(network.embed_clips([other]), whole)
    lifted = clip.clone()
    lifted[:, [where.root_height.start, *range(where.positions.start + 1, where.positions.stop, 3)]] += 0.3
    torch.testing.assert_close(network.embed_clips([lifted]), whole, rtol=1e-4, atol=1e-4)
    for group in (where.root_rotation, where.root_velocity, where.positions):
        other = clip.clone()
        other[:, group] *= -1
        assert (network.embed_clips([other]) - whole).abs().max() > 1e-3
    torch.testing.assert_close(network.embed_clips([clip]), whole)  # nothing was changed in place


def test_nan_stays_in_its_row(network: TMR) -> None:
    padded, lengths = pad_sequence(clips(20, 30, 10), True), torch.tensor([20, 30, 10])
    vectors = network.embed_features(padded, lengths)
    padded[1, 3, 10] = torch.nan
    found = network.embed_features(padded, lengths)
    assert found[1].isnan().all()
    torch.testing.assert_close(found[[0, 2]], vectors[[0, 2]])


def test_shapes_that_do_not_fit(network: TMR) -> None:
    with pytest.raises(MotionGPT3Error, match="263"):
        network.embed_features(torch.zeros(2, 10, 262), torch.tensor([10, 10]))
    with pytest.raises(MotionGPT3Error, match="B lengths"):
        network.embed_features(torch.zeros(2, 10, 263), torch.tensor([10]))
    for wrong in (0, 11):
        with pytest.raises(MotionGPT3Error, match="between 1 and 10"):
            network.embed_features(torch.zeros(2, 10, 263), torch.tensor([10, wrong]))
    with pytest.raises(MotionGPT3Error, match="multiple"):
        TMR(TMRConfig(width=10, heads=4))


def test_it_comes_back_from_its_folder(network: TMR, tmp_path: Path, tiny_evaluator_dir: Path) -> None:
    network.save(tmp_path / "copy", "", torch.float16)
    again = TMR.load(tmp_path / "copy")
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert {tensor.dtype for tensor in again.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(again.embed_clips(clips(30)), network.embed_clips(clips(30)), rtol=1e-2, atol=1e-2)
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_evaluator_dir, damaged)
    (damaged / WEIGHTS).write_bytes((damaged / WEIGHTS).read_bytes()[:-8])
    with pytest.raises(MotionGPT3Error, match="damaged"):
        TMR.load(damaged)
