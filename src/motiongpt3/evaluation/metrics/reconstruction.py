"""How far are joints from where they should be, in reconstructed and in predicted motions?"""

from __future__ import annotations

from collections.abc import Sequence

import roma
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.samples import SampleMetric, check_references, finite_rows

MM = 1000.0


class ReconstructionErrors(SampleMetric):
    """Joint errors of reconstructed motions.

    `compute` returns `mpjpe`, `root_aligned_mpjpe` and `pa_mpjpe` in mm (see `joint_error`, `root_aligned`,
    `procrustes_aligned`), `acceleration_error` in m/s² (see `acceleration_error`; papers print mm per frame², which is
    this times 1000 / fps²), `frames`, `samples` and `excluded`. Without samples they are NaN, the acceleration also
    where no clip has three frames; a warning says so.

    Errors are means over all frames, as the papers have it.

    Args:
        fps: frames per second of the motions.
        names: see `SampleMetric`.
    """

    higher_is_better = False

    def __init__(self, fps: float = 20.0, names: Sequence[str] | None = None) -> None:
        super().__init__(("sums", "frames"), names)
        if not fps > 0:
            raise MotionGPT3Error(f"fps must be a positive number, not {fps}")
        self.fps = fps

    def update(
        self,
        prediction: Tensor,
        target: Tensor,
        index: Tensor | Sequence[int],
        lengths: Tensor | Sequence[int] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            prediction: (B, T, J, 3) joints in metres; joint 0 is the root.
            target: (B, T, J, 3).
            index: (B,) place of each clip in the population.
            lengths: (B,) frames that count, 1 to T; T if None. What lies behind them is not looked at.

        Raises:
            MotionGPT3Error: shapes or lengths that do not fit, or a target that is not finite.
        """
        prediction, target = prediction.detach().cpu().double(), target.detach().cpu().double()
        if prediction.ndim != 4 or prediction.shape != target.shape or prediction.shape[-1] != 3:
            shapes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
            raise MotionGPT3Error(f"motions must both be (clips, frames, joints, 3), not {shapes}")
        clips, frames = prediction.shape[:2]
        stop = torch.full((clips,), frames) if lengths is None else torch.as_tensor(lengths).cpu()
        if stop.shape != (clips,) or (clips and (stop.min() < 1 or stop.max() > frames)):
            raise MotionGPT3Error(f"lengths must be {clips} numbers from 1 to {frames}")
        counts = span(0, stop, frames)
        prediction = prediction.masked_fill(~counts[..., None, None], 0)
        target = target.masked_fill(~counts[..., None, None], 0)
        check_references(finite_rows(target), index, "the target")
        usable = finite_rows(prediction)
        prediction = torch.where(usable[:, None, None, None], prediction, target)

        per_frame = torch.zeros(clips, frames, 3, dtype=torch.float64)
        per_frame[..., 0] = joint_error(prediction, target)
        per_frame[..., 1] = joint_error(root_aligned(prediction), root_aligned(target))
        per_frame[..., 2][counts] = joint_error(procrustes_aligned(prediction[counts], target[counts]), target[counts])
        sums = (per_frame * counts[..., None]).sum(dim=1) * MM
        bends = (acceleration_error(prediction, target, self.fps) * counts[:, 2:]).sum(dim=1)
        sums = torch.cat([sums, bends[:, None]], dim=1)
        self._keep(index, usable, sums=sums, frames=torch.stack([stop, (stop - 2).clamp(min=0)], dim=1).long())

    def _scores(self, table: dict[str, Tensor]) -> dict[str, Tensor]:
        frames = table["frames"].reshape(-1, 2).sum(dim=0).long()
        scores = {"frames": frames[0]}
        for column, name in enumerate(("mpjpe", "root_aligned_mpjpe", "pa_mpjpe", "acceleration_error")):
            count = frames[column // 3]
            if not count:
                self._warn(f"{name} is undefined: no clip has {'three frames' if column == 3 else 'been given'}")
            scores[name] = table["sums"].reshape(-1, 4)[:, column].sum() / count
        return scores


class PredictionErrors(SampleMetric):
    """Displacement errors of predicted frames: the rest of a motion, or its middle.

    The displacement of a frame is the mean over joints of their distances in metres (`joint_error`). ADE is its mean
    over the predicted frames of a clip, FDE its value in the last of them; each clip counts once. Only predicted frames
    count: neither those that were given nor padding.

    `compute` returns `ade` and `fde` in metres, `samples` and `excluded`. With several predictions of a clip, these two
    are means over them, and there are also `ade_best` and `fde_best`, of the best of them (Gupta et al., Social GAN,
    CVPR 2018), `apd`, the mean over pairs of predictions of their mean displacement from each other in metres, and
    `apd_norm`, the mean over pairs of the length of their difference as one vector of all frames and joints, which is
    APD as DLow (Yuan and Kitani, ECCV 2020) prints it and grows with the number of frames. A clip with one prediction
    that is not finite is left out. Without clips all are NaN, and a warning says so.

    Args:
        predictions: how many of each clip.
        names: see `SampleMetric`.
    """

    def __init__(self, predictions: int = 1, names: Sequence[str] | None = None) -> None:
        super().__init__(("errors",), names)
        if predictions < 1:
            raise MotionGPT3Error(f"a clip has at least one prediction, not {predictions}")
        self.predictions = predictions

    def update(self, prediction: Tensor, target: Tensor, predicted: Tensor, index: Tensor | Sequence[int]) -> None:
        """Add a batch.

        Args:
            prediction: (B, T, J, 3), or (B, S, T, J, 3) for S predictions of each clip. Metres.
            target: (B, T, J, 3).
            predicted: (B, T) bool, the frames that were predicted; at least one of each clip. `span` makes it.
            index: (B,) place of each clip in the population.

        Raises:
            MotionGPT3Error: shapes that do not fit, a clip without predicted frames, or a target that is not finite.
        """
        prediction, target = prediction.detach().cpu().double(), target.detach().cpu().double()
        predicted = predicted.detach().cpu().bool()
        if prediction.ndim == 4:
            prediction = prediction[:, None]
        wanted = (len(target), self.predictions, *target.shape[1:])
        if target.ndim != 4 or target.shape[-1] != 3 or prediction.shape != wanted:
            shapes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
            raise MotionGPT3Error(f"joints must be (B, {self.predictions}, T, J, 3) and (B, T, J, 3), not {shapes}")
        if predicted.shape != target.shape[:2] or not predicted.any(dim=1).all():
            raise MotionGPT3Error(f"predicted must be {tuple(target.shape[:2])} and mark a frame of each clip")
        prediction = prediction.masked_fill(~predicted[:, None, :, None, None], 0)
        target = target.masked_fill(~predicted[..., None, None], 0)
        check_references(finite_rows(target), index, "the target")
        count = predicted.sum(dim=1)[:, None]
        last = (predicted * torch.arange(predicted.shape[1])).argmax(dim=1)
        displacement = joint_error(prediction, target[:, None])
        average = displacement.sum(dim=-1) / count
        final = displacement[torch.arange(len(target)), :, last]
        errors = [average.mean(dim=1), final.mean(dim=1)]
        if self.predictions > 1:
            pairs = torch.combinations(torch.arange(self.predictions)).tolist()
            apart = [joint_error(prediction[:, a], prediction[:, b]).sum(dim=1, keepdim=True) / count for a, b in pairs]
            lengths = [(prediction[:, a] - prediction[:, b]).flatten(1).norm(dim=1) for a, b in pairs]
            errors += [average.amin(dim=1), final.amin(dim=1)]
            errors += [torch.cat(apart, dim=1).mean(dim=1), torch.stack(lengths).mean(dim=0)]
        self._keep(index, finite_rows(prediction), errors=torch.stack(errors, dim=1))

    def _scores(self, table: dict[str, Tensor]) -> dict[str, Tensor]:
        names = ("ade", "fde", "ade_best", "fde_best", "apd", "apd_norm")[: 6 if self.predictions > 1 else 2]
        if not len(table["index"]):
            self._warn(f"{', '.join(names)} are undefined: there are no clips")
        errors = table["errors"].reshape(-1, len(names)).mean(dim=0)
        return dict(zip(names, errors.double(), strict=True))


def span(start: Tensor | int, stop: Tensor | int, frames: int) -> Tensor:
    """(B, frames) bool, true from `start` to before `stop`; both (B,), or one of them a number for all clips."""
    at = torch.arange(frames)
    start, stop = (torch.as_tensor(one).cpu().reshape(-1, 1) for one in (start, stop))
    return (at >= start) & (at < stop)


def joint_error(prediction: Tensor, target: Tensor) -> Tensor:
    """MPJPE: (..., J, 3), (..., J, 3) -> (...), the mean over joints of their distances, in the unit of the joints.

    (Ionescu et al., Human3.6M, TPAMI 2014.)
    """
    return (prediction - target).norm(dim=-1).mean(dim=-1)


def root_aligned(joints: Tensor) -> Tensor:
    """(..., J, 3) joints relative to joint 0."""
    return joints - joints[..., :1, :]


def procrustes_aligned(prediction: Tensor, target: Tensor) -> Tensor:
    """(..., J, 3) moved, turned (never mirrored) and scaled so that squared distances to `target` are least.

    (Umeyama, TPAMI 1991, equations 40 to 42, by `roma`.) Joints that all lie in one point are only moved.
    """
    centre, goal = prediction.mean(dim=-2, keepdim=True), target.mean(dim=-2, keepdim=True)
    size = (prediction - centre).square().sum(dim=(-2, -1))
    point = (size <= 1e-20)[..., None, None]
    # A point has no direction and no size; the registration is given something else and its answer is not used.
    rotation, move, scale = roma.rigid_points_registration(
        torch.where(point, target, prediction),
        target,
        compute_scaling=True,
    )
    aligned = scale[..., None, None] * prediction @ rotation.mT + move[..., None, :]
    # Where the target is a point, the scale is 0 and the rotation may be anything.
    return torch.where(point | ~aligned.isfinite(), goal, aligned)


def acceleration_error(prediction: Tensor, target: Tensor, fps: float = 20.0) -> Tensor:
    """(..., T, J, 3) twice -> (..., T-2): mean over joints of the distance of accelerations, in the joints' unit / s².

    The acceleration is x[t+1] - 2 x[t] + x[t-1], times fps² (Kanazawa et al., Learning 3D Human Dynamics from Video,
    CVPR 2019, without fps). Fewer than three frames have none: (..., 0).
    """
    if prediction.shape[-3] < 3:
        return prediction.new_zeros(*prediction.shape[:-3], 0)
    return joint_error(prediction.diff(n=2, dim=-3), target.diff(n=2, dim=-3)) * fps**2
