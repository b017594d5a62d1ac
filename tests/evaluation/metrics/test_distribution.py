"""FID, diversity, multimodality: the published numbers, closed forms, too few samples."""

from __future__ import annotations

import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics import FID, Diversity, MultiModality
from motiongpt3.evaluation.metrics.distribution import frechet_distance


def with_moments(mean: torch.Tensor, deviations: torch.Tensor, samples: int = 200) -> torch.Tensor:
    """(samples, D) whose sample mean and diagonal covariance are exactly these."""
    raw = torch.randn(samples, len(mean), dtype=torch.float64)
    orthonormal = torch.linalg.qr(raw - raw.mean(dim=0)).Q
    return orthonormal * (samples - 1) ** 0.5 * deviations + mean


def test_fid_closed_form() -> None:
    """Diagonal covariances: |m1 - m2|² + sum (s1 - s2)²; one of them singular."""
    first = with_moments(torch.tensor([1.0, 0, 0]), torch.tensor([1.0, 2, 0]))
    second = with_moments(torch.tensor([0.0, 0, 2]), torch.tensor([3.0, 0, 1]))
    assert float(frechet_distance(first, second)) == pytest.approx(5 + 4 + 4 + 1, rel=1e-6)
    assert float(frechet_distance(second, first)) == pytest.approx(14, rel=1e-6)


def test_fid_is_stable() -> None:
    """No distance to itself, in many nearly dependent dimensions too; nothing negative, nothing complex."""
    data = torch.randn(300, 4) @ torch.randn(4, 64) + 1e-6 * torch.randn(300, 64)
    assert 0 <= float(frechet_distance(data, data)) < 1e-6
    assert 0 <= float(frechet_distance(data, data.flip(0))) < 1e-6
    far = frechet_distance(data, data + 1e3)
    assert float(far) == pytest.approx(64e6, rel=1e-6)


def test_fid_with_too_few_samples() -> None:
    data = torch.randn(10, 8)
    metric = FID()
    metric.update(data, torch.arange(10), real=True)
    metric.update(data[:8], torch.arange(8))
    with pytest.warns(UserWarning, match="FID is undefined: 8 generated and 10 real samples in 8 dimensions"):
        assert metric.compute()["fid"].isnan()
    metric.update(data[8:9], [8])
    assert torch.equal(metric.compute()["fid"], frechet_distance(data[:9], data))


def test_fid_keeps_the_real_motion_of_a_bad_prediction() -> None:
    real, made = torch.randn(10, 3), torch.randn(10, 3)
    made[4] = torch.nan
    metric = FID(names=[f"clip{i}" for i in range(10)])
    metric.update(real, torch.arange(10), real=True)
    metric.update(made, torch.arange(10))
    with pytest.warns(UserWarning, match="1 predictions .*: clip4$"):
        result = metric.compute()
    assert (result["samples"], result["samples_real"], result["excluded"]) == (9, 10, 1)
    assert torch.equal(result["fid"], frechet_distance(made[made.isfinite().all(dim=1)], real))


def test_a_bad_real_embedding_is_an_error() -> None:
    with pytest.raises(MotionGPT3Error, match="sample 7"):
        FID().update(torch.tensor([[0.0], [torch.nan]]), [3, 7], real=True)


def test_undefined_diversity_and_multimodality() -> None:
    diversity, multimodality = Diversity(), MultiModality()
    diversity.update(torch.randn(299, 2), torch.arange(299))
    multimodality.update(torch.randn(4, 9, 2), torch.arange(4))
    with pytest.warns(UserWarning, match="undefined: 299 samples, and a draw takes 300"):
        assert diversity.compute()["diversity"].isnan()
    with pytest.warns(UserWarning, match="undefined: 9 motions of a text, and a draw takes 10"):
        assert multimodality.compute()["multimodality"].isnan()


def test_multimodality_of_equal_motions_is_zero() -> None:
    metric = MultiModality(pairs=3)
    metric.update(torch.randn(6, 1, 4).expand(6, 5, 4), torch.arange(6))
    assert float(metric.compute()["multimodality"]) == 0
