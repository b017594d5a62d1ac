"""Are generated motions distributed like real ones, and do they differ from one another?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.samples import SampleMetric, check_references, finite_rows


class FID(SampleMetric):
    """Fréchet distance between Gaussians fitted to real and to generated embeddings; see `frechet_distance`.

    `compute` returns `fid` (squared units of the embedding), `samples` (generated), `samples_real` and `excluded`.
    A covariance in D dimensions needs D + 1 samples: with fewer, of either kind, FID is NaN and a warning says so.

    (From so few it would be too large by an amount that depends on their number.)

    Args:
        names: see `SampleMetric`; they name the generated motions.
    """

    higher_is_better = False

    def __init__(self, names: Sequence[str] | None = None) -> None:
        super().__init__(("embedding",), names)

    def update(self, embedding: Tensor, index: Tensor | Sequence[int], real: bool = False) -> None:
        """Add a batch.

        Args:
            embedding: (B, D) of motions.
            index: (B,) place of each motion in its population; real and generated ones are numbered independently.
            real: whether the motions are real.

        Raises:
            MotionGPT3Error: a shape that does not fit, or real embeddings that are not finite.
        """
        if embedding.ndim != 2:
            raise MotionGPT3Error(f"embeddings must be (samples, dimensions), not {tuple(embedding.shape)}")
        usable = finite_rows(embedding)
        if real:
            check_references(usable, index, "the real embedding")
        # Both populations share the states: even keys are generated samples, odd ones real.
        self._keep(2 * torch.as_tensor(index) + int(real), usable, embedding=embedding)

    def name(self, index: int) -> str:
        """What to call the sample with this key."""
        return super().name(index // 2) if index % 2 == 0 else f"real {index // 2}"

    def _scores(self, table: dict[str, Tensor]) -> dict[str, Tensor]:
        real = table["index"] % 2 == 1
        made, true = table["embedding"][~real], table["embedding"][real]
        score = torch.tensor(torch.nan, dtype=torch.float64)
        size = table["embedding"].shape[-1] if len(real) else 0
        if min(len(made), len(true)) > size:
            score = frechet_distance(made, true)
        else:
            has = f"{len(made)} generated and {len(true)} real samples in {size} dimensions"
            self._warn(f"FID is undefined: {has}; a covariance needs {size + 1} of each")
        return {"fid": score, "samples": torch.tensor(len(made)), "samples_real": torch.tensor(len(true))}


class Diversity(SampleMetric):
    """Mean distance between motions of two random draws of the population (Guo et al., CVPR 2022).

    `compute` returns `diversity` (units of the embedding), `samples` and `excluded`. With fewer samples than a draw it
    is NaN and a warning says so.

    Args:
        pairs: motions of a draw; the papers take 300.
        seed: of the draws (`numpy.random.RandomState`).
        names: see `SampleMetric`.
    """

    score, drawn = "diversity", "samples"
    sizes: tuple[str, ...] = ("samples", "dimensions")

    def __init__(self, pairs: int = 300, seed: int = 0, names: Sequence[str] | None = None) -> None:
        super().__init__(("embedding",), names)
        self.pairs, self.seed = pairs, seed

    def update(self, embedding: Tensor, index: Tensor | Sequence[int]) -> None:
        """Add a batch of (B, D) embeddings with their (B,) places in the population."""
        if embedding.ndim != len(self.sizes):
            raise MotionGPT3Error(f"embeddings must be ({', '.join(self.sizes)}), not {tuple(embedding.shape)}")
        self._keep(index, finite_rows(embedding), embedding=embedding)

    def _scores(self, table: dict[str, Tensor]) -> dict[str, Tensor]:
        motions = table["embedding"].transpose(0, len(self.sizes) - 2) if len(table["index"]) else torch.zeros(0)
        score = torch.tensor(torch.nan, dtype=torch.float64)
        if len(motions) < self.pairs:
            self._warn(f"{self.score} is undefined: {len(motions)} {self.drawn}, and a draw takes {self.pairs}")
        else:
            score = mean_distance(motions, self.pairs, self.seed)
        return {self.score: score}


class MultiModality(Diversity):
    """Mean distance between motions generated from the same text (Guo et al., CVPR 2022).

    A sample is a text with all motions made from it; one motion that is not finite excludes the text. `update` takes
    (B, R, D) embeddings, R motions of each text, with the texts' (B,) places. `compute` returns `multimodality` (units
    of the embedding), `samples` (texts) and `excluded`. With fewer motions per text than pairs it is NaN and a warning
    says so.

    Args:
        pairs: motions of each of the two draws; the papers take 10 of 30.
        seed: of the draws (`numpy.random.RandomState`); all texts use the same.
        names: see `SampleMetric`; they name the texts.
    """

    score, drawn = "multimodality", "motions of a text"
    sizes = ("texts", "motions", "dimensions")

    def __init__(self, pairs: int = 10, seed: int = 0, names: Sequence[str] | None = None) -> None:
        super().__init__(pairs, seed, names)


def frechet_distance(first: Tensor, second: Tensor) -> Tensor:
    """|m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½) of the means and covariances of two sets, a float64 scalar, >= 0.

    (Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017.) The eigenvalues of S1 S2
    are those of S1^½ S2 S1^½, so the trace of its root is the sum of the singular values of S1^½ S2^½, and the roots
    of S1 and S2 come from their own eigenvalues. Nothing is inverted and no matrix is non-symmetric, so singular
    covariances need no eps on the diagonal (Guo et al. add 1e-6, only where the general square root fails); eigenvalues
    that rounding made negative are 0.

    Args:
        first: (N, D), N >= 2.
        second: (M, D), M >= 2.
    """
    first, second = first.double(), second.double()
    covariance = [torch.cov(one.T).reshape(one.shape[1], one.shape[1]) for one in (first, second)]
    roots = []
    for matrix in covariance:
        values, vectors = torch.linalg.eigh(matrix)
        roots.append(vectors * values.clamp(min=0).sqrt() @ vectors.T)
    common = torch.linalg.svdvals(roots[0] @ roots[1]).sum()
    means = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    return (means + covariance[0].trace() + covariance[1].trace() - 2 * common).clamp(min=0)


def mean_distance(motions: Tensor, pairs: int, seed: int) -> Tensor:
    """Mean distance of `pairs` of (N, ..., D) motions to as many others; two draws, each without replacement."""
    random = np.random.RandomState(seed)
    one, other = (torch.from_numpy(random.choice(len(motions), pairs, replace=False)) for _ in range(2))
    return (motions[one].double() - motions[other].double()).norm(dim=-1).mean()
