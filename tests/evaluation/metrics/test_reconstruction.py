"""Joint and displacement errors: the published numbers, hand-worked motions, padding, NaN."""

from __future__ import annotations

import pytest
import roma
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics import PredictionErrors, ReconstructionErrors, span
from motiongpt3.evaluation.metrics.reconstruction import joint_error, procrustes_aligned


def test_errors_by_hand() -> None:
    """A body 5 cm too far in x, twice as far in the second clip, with one accelerated joint."""
    target = torch.randn(2, 6, 4, 3)
    prediction = target.clone()
    prediction[0, ..., 0] += 0.05
    prediction[1, ..., 0] += 0.10
    prediction[1, 3, 2, 1] += 0.01
    metric = ReconstructionErrors(fps=20)
    metric.update(prediction, target, [0, 1], lengths=[6, 3])
    result = metric.compute()
    # Frame 3 of clip 1 lies behind its length. 6 frames of 50 mm, 3 of 100 mm.
    assert float(result["mpjpe"]) == pytest.approx((6 * 50 + 3 * 100) / 9, rel=1e-4)
    assert float(result["root_aligned_mpjpe"]) == pytest.approx(0, abs=1e-3)
    assert float(result["pa_mpjpe"]) == pytest.approx(0, abs=1e-3)
    assert float(result["acceleration_error"]) == pytest.approx(0, abs=1e-3)
    assert (result["frames"], result["samples"]) == (9, 2)
    # Now frame 3 counts: the second differences at frames 2, 3 and 4 differ by 1, 2 and 1 cm in one of 4 joints.
    metric = ReconstructionErrors(fps=20)
    metric.update(prediction[1:], target[1:], [0])
    assert float(metric.compute()["acceleration_error"]) == pytest.approx(0.04 / 4 / 4 * 400, rel=1e-3)


def test_procrustes() -> None:
    """A similarity is undone; a mirror image is not; a point is moved."""
    target = torch.randn(5, 22, 3, dtype=torch.float64)
    turned = 0.7 * target @ roma.random_rotmat(5, dtype=torch.float64).mT + torch.randn(5, 1, 3)
    assert joint_error(procrustes_aligned(turned, target), target).max() < 1e-9
    mirrored = target * torch.tensor([-1.0, 1, 1])
    assert joint_error(procrustes_aligned(mirrored, target), target).min() > 0.1
    point = torch.zeros_like(target)
    assert torch.allclose(procrustes_aligned(point, target), target.mean(dim=-2, keepdim=True).expand_as(target))
    assert torch.allclose(procrustes_aligned(target, point), point)


def test_padding_is_not_looked_at_and_nan_is_left_out() -> None:
    target = torch.randn(3, 8, 4, 3)
    prediction = target + 0.1
    target[0, 5:], prediction[0, 5:] = torch.nan, torch.inf
    prediction[2, 3, 1, 1] = torch.nan
    metric = ReconstructionErrors(names=["a", "b", "c"])
    metric.update(prediction, target, [0, 1, 2], lengths=[5, 8, 8])
    with pytest.warns(UserWarning, match="1 predictions .*: c$"):
        result = metric.compute()
    assert float(result["mpjpe"]) == pytest.approx(100 * 3**0.5, rel=1e-5)
    assert result["frames"] == 13
    target[1, 0] = torch.nan
    with pytest.raises(MotionGPT3Error, match="target of sample 1"):
        metric.update(prediction, target, [0, 1, 2], lengths=[5, 8, 8])


def test_two_frames_have_no_acceleration() -> None:
    metric = ReconstructionErrors()
    metric.update(torch.randn(1, 2, 4, 3), torch.randn(1, 2, 4, 3), [0])
    with pytest.warns(UserWarning, match="acceleration_error is undefined: no clip has three frames"):
        result = metric.compute()
    assert result["acceleration_error"].isnan()
    assert result["mpjpe"].isfinite()


@pytest.mark.parametrize("lengths", [[0, 3], [3, 9], [3]])
def test_bad_lengths(lengths: list[int]) -> None:
    with pytest.raises(MotionGPT3Error, match="lengths"):
        ReconstructionErrors().update(torch.zeros(2, 8, 4, 3), torch.zeros(2, 8, 4, 3), [0, 1], lengths)


def test_displacement_by_hand() -> None:
    """Frames 2 to 4 of 6 are predicted; the error of joint 0 of 2 is 1, 2, 3 m there and 100 m elsewhere."""
    target = torch.zeros(1, 6, 2, 3)
    prediction = target.clone()
    prediction[0, :, 0, 1] = torch.tensor([100.0, 100, 1, 2, 3, 100])
    metric = PredictionErrors()
    metric.update(prediction, target, span(2, 5, 6), [0])
    result = metric.compute()
    assert float(result["ade"]) == 1.0
    assert float(result["fde"]) == 1.5
    assert set(result) == {"ade", "fde", "samples", "excluded"}


def test_several_predictions_by_hand() -> None:
    """Predictions 0, 1 and 3 m off in all joints and frames, of 2 frames and 2 joints."""
    target = torch.zeros(1, 4, 2, 3)
    prediction = torch.zeros(1, 3, 4, 2, 3)
    prediction[0, 1, ..., 0], prediction[0, 2, ..., 0] = 1, 3
    metric = PredictionErrors(3)
    metric.update(prediction, target, torch.tensor([[False, True, True, False]]), [0])
    result = {key: float(value) for key, value in metric.compute().items()}
    assert result["ade"] == result["fde"] == pytest.approx(4 / 3)
    assert result["ade_best"] == result["fde_best"] == 0
    assert result["apd"] == pytest.approx((1 + 3 + 2) / 3)
    assert result["apd_norm"] == pytest.approx(2 * (1 + 3 + 2) / 3)


def test_spans() -> None:
    assert span(torch.tensor([0, 2]), torch.tensor([1, 3]), 3).tolist() == [[True, False, False], [False, False, True]]
    with pytest.raises(MotionGPT3Error, match="mark a frame"):
        PredictionErrors().update(torch.zeros(1, 3, 2, 3), torch.zeros(1, 3, 2, 3), span(2, 2, 3), [0])
    with pytest.raises(MotionGPT3Error, match="joints must be"):
        PredictionErrors(2).update(torch.zeros(1, 3, 2, 3), torch.zeros(1, 3, 2, 3), span(0, 2, 3), [0])
