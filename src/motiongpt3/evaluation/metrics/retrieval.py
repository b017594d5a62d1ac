"""Do texts and motions find each other in an evaluator's embedding space?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.samples import SampleMetric, finite_rows

RANKS = (1, 2, 3, 5, 10)
"""The k of recall at k, as TMR reports them."""


class RPrecision(SampleMetric):
    """R-precision and multimodal distance in groups.

    The samples are shuffled and cut into groups of `group`; what is left over is dropped. In a group, each text ranks
    the motions by Euclidean distance. R@k is the share of texts whose own motion is among the first k; MM-Dist is the
    mean distance of a text to its own motion, in the same groups (Guo et al., Generating Diverse and Natural 3D Human
    Motions from Text, CVPR 2022). Chance is k / group.

    `compute` returns `r_precision_1` ... `r_precision_<top>`, `mm_dist` (units of the embedding), `groups`, `samples`
    and `excluded`. With fewer samples than a group all scores are NaN, and a warning says so.

    After `compute`, `ranked` holds the places (M,) of the samples that were in a group and their ranks (M,), 0 is best.

    Args:
        group: texts and motions of a group.
        top: the largest k.
        seed: of the shuffle (`numpy.random.RandomState`, whose stream NumPy keeps as it is); None keeps the order of
            the indices. Samplings with other seeds: `r_precision` on the same embeddings.
        names: see `SampleMetric`.

    Example::

        metric = RPrecision()
        metric.update(texts, motions, index)  # (B, D), (B, D), (B,)
        metric.compute()["r_precision_3"]
    """

    def __init__(self, group: int = 32, top: int = 3, seed: int | None = 0, names: Sequence[str] | None = None) -> None:
        super().__init__(("text", "motion", "label"), names)
        if group < 2 or not 1 <= top <= group:
            raise MotionGPT3Error(f"a group has 2 or more samples and top lies within it, not {group} and {top}")
        self.group, self.top, self.seed = group, top, seed
        self.ranked = (torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))

    def update(
        self, text: Tensor, motion: Tensor, index: Tensor | Sequence[int], label: Tensor | Sequence[int] | None = None
    ) -> None:
        """Add a batch.

        Args:
            text: (B, D) embeddings.
            motion: (B, D) embeddings of the texts' own motions. Whichever of the two is generated may be not finite;
                the pair is then left out.
            index: (B,) place of each pair in the population.
            label: (B,) what the motion shows, as a number; if given (>= 0), no two of a group share a label.

        Raises:
            MotionGPT3Error: shapes that do not fit.
        """
        if text.ndim != 2 or text.shape != motion.shape:
            shapes = {"text": tuple(text.shape), "motion": tuple(motion.shape)}
            raise MotionGPT3Error(f"embeddings must be (samples, dimensions), all of one size, not {shapes}")
        labels = torch.full((len(text),), -1) if label is None else torch.as_tensor(label).long()
        self._keep(
            index, finite_rows(text) & finite_rows(motion).to(text.device), text=text, motion=motion, label=labels
        )

    def _scores(self, table: dict[str, Tensor]) -> dict[str, Tensor]:
        label = table["label"].long()
        labels = label if len(label) and bool((label >= 0).all()) else None
        if labels is None and bool((label >= 0).any()):
            raise MotionGPT3Error("some samples have a label and others none; give all of them one, or none")
        groups = make_groups(len(label), self.group, self.seed, labels)
        rank, distance = group_ranks(table["text"], table["motion"], groups)
        self.ranked = (table["index"][groups.flatten()], rank.flatten())
        scores = group_scores(rank, distance, self.top)
        if not scores["groups"]:
            kind = "with different labels " if labels is not None else ""
            self._warn(
                f"R-precision and MM-Dist are undefined: {len(label)} samples hold no group of {self.group} {kind}"
            )
        return scores


def r_precision(
    text: Tensor, motion: Tensor, group: int = 32, top: int = 3, seed: int | None = 0, label: Tensor | None = None
) -> dict[str, Tensor]:
    """R-precision and MM-Dist; see `RPrecision`.

    Args:
        text: (N, D) embeddings.
        motion: (N, D) embeddings of the texts' motions, in the same order.
        group, top, seed: see `RPrecision`.
        label: (N,) integers; if given, a group has at most one sample of each.

    Returns:
        `r_precision_k` and `mm_dist` (NaN without a group), and the number of `groups`.
    """
    rank, distance = group_ranks(text, motion, make_groups(len(text), group, seed, label))
    return group_scores(rank, distance, top)


def group_ranks(text: Tensor, motion: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of each text's own motion in its group, 0 is best, and its distance; (N, D), (N, D), (G, n) -> (G, n) both.

    Motions as near as the own one rank by their place.
    """
    if not len(groups):
        return torch.zeros(groups.shape, dtype=torch.long), torch.zeros(groups.shape, dtype=torch.float64)
    distance = torch.cdist(
        text[groups].double(), motion[groups].double(), compute_mode="donot_use_mm_for_euclid_dist"
    )  # (G, n, n)
    ranking = distance.argsort(dim=-1, stable=True)
    rank = (ranking == torch.arange(groups.shape[1])[:, None]).double().argmax(dim=-1)
    return rank, distance.diagonal(dim1=-2, dim2=-1)


def group_scores(rank: Tensor, distance: Tensor, top: int) -> dict[str, Tensor]:
    """What `r_precision` returns, of the ranks and distances (G, n) of `group_ranks`; a mean of nothing is NaN."""
    scores = {f"r_precision_{k + 1}": (rank <= k).double().mean() for k in range(top)}
    return {**scores, "mm_dist": distance.mean(), "groups": torch.tensor(len(rank))}


def make_groups(samples: int, group: int, seed: int | None, label: Tensor | None = None) -> Tensor:
    """(G, group) sample numbers of all full groups; `seed` None keeps the order, labels make `label_groups`."""
    if label is not None:
        return label_groups(label, group, seed)
    order = np.arange(samples) if seed is None else np.random.RandomState(seed).permutation(samples)
    return torch.from_numpy(order[: samples // group * group]).reshape(-1, group)


def label_groups(label: Tensor, group: int, seed: int | None) -> Tensor:
    """(G, group) sample numbers of groups in which no label comes twice; as many groups as there can be.

    G groups exist if and only if the labels, each counted at most G times, fill them. Samples sorted by label and dealt
    one to each group in turn never put a label twice into a group, if it has G samples at most.

    Args:
        label: (N,) integers.
        group: samples of a group.
        seed: of the choice of samples and of the order of labels; None takes both as they come.
    """
    values, counts = label.unique(return_counts=True)
    most = len(label) // group
    while most and int(counts.clamp(max=most).sum()) < most * group:
        most -= 1
    random = None if seed is None else np.random.RandomState(seed)
    labels = np.arange(len(values)) if random is None else random.permutation(len(values))
    chosen: list[int] = []
    for value in values[torch.from_numpy(labels)].tolist():
        members = torch.nonzero(label == value).flatten().numpy()
        chosen += (members if random is None else random.permutation(members))[:most].tolist()
    return torch.tensor(chosen[: most * group], dtype=torch.long).reshape(group, most).T


def contrastive_scores(
    similarity: Tensor, sentence_similarity: Tensor | None = None, threshold: float | None = None
) -> dict[str, Tensor]:
    """Recall at k and median rank among all N samples, both ways (Petrovich et al., TMR, ICCV 2023).

    The rank of a query is the number of samples more similar to it than its own one. Without a threshold, ties share
    their mean rank. With a threshold, every sample whose text is as similar as that to the query's is right, the best
    of them counts, and it wins its ties.

    Args:
        similarity: (N, N) of text i and motion j.
        sentence_similarity: (N, N) cosine similarity of the texts' sentence embeddings; symmetric.
        threshold: on the sentence similarity s scaled to (s + 1) / 2, as TMR has it: 0.95 means s > 0.9.

    Returns:
        `t2m_R01` ... `t2m_R10` in percent, `t2m_MedR` (1 is best), and the same for `m2t`.

    Raises:
        MotionGPT3Error: the matrix is not square, or only one of the last two arguments is given.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not len(similarity):
        raise MotionGPT3Error(f"the similarity must be a square matrix, not {tuple(similarity.shape)}")
    if (threshold is None) != (sentence_similarity is None):
        raise MotionGPT3Error("a threshold and the sentence similarity go together")
    right = torch.eye(len(similarity), dtype=torch.bool)
    if sentence_similarity is not None and threshold is not None:
        right = right | (sentence_similarity > 2 * threshold - 1)
    scores = {}
    for way, matrix in (("t2m", similarity), ("m2t", similarity.T)):
        own = torch.where(right, matrix, -torch.inf).max(dim=1, keepdim=True).values
        rank = (matrix > own).sum(dim=1).double()
        if threshold is None:
            rank += ((matrix == own).sum(dim=1) - 1) / 2
        for k in RANKS:
            scores[f"{way}_R{k:02d}"] = 100 * (rank < k).double().mean()
        scores[f"{way}_MedR"] = rank.quantile(0.5) + 1
    return scores
