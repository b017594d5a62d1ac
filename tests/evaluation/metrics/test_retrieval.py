"""Retrieval: the published numbers, groups, ties."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics import RPrecision
from motiongpt3.evaluation.metrics.retrieval import contrastive_scores, label_groups, make_groups, r_precision


def test_ranks_by_hand() -> None:
    """Texts at 0, 1, 2; motions at 0.1, -0.3, 1.9: text 1 is farthest from its own, the others nearest."""
    text, motion = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.1], [-0.3], [1.9]])
    scores = r_precision(text, motion, group=3, seed=None)
    assert [round(float(scores[f"r_precision_{k}"]), 4) for k in (1, 2, 3)] == [0.6667, 0.6667, 1.0]
    assert float(scores["mm_dist"]) == pytest.approx((0.1 + 1.3 + 0.1) / 3)


def test_text_ranks_motions_not_the_other_way() -> None:
    """Texts at 0 and 4, motions at 3 and 4.5: each text is nearest to its own, motion 0 to text 1."""
    text, motion = torch.tensor([[0.0], [4.0]]), torch.tensor([[3.0], [4.5]])
    assert float(r_precision(text, motion, group=2, top=1, seed=None)["r_precision_1"]) == 1
    assert float(r_precision(motion, text, group=2, top=1, seed=None)["r_precision_1"]) == 0.5


def test_a_collapsed_evaluator_is_at_chance() -> None:
    same = torch.ones(64, 4)
    assert float(r_precision(same, same)["r_precision_3"]) == pytest.approx(3 / 32)
    assert float(contrastive_scores(same @ same.T)["t2m_R10"]) == 0


@pytest.mark.filterwarnings("ignore:RPrecision")
def test_what_is_left_over_is_dropped() -> None:
    metric = RPrecision(group=4)
    metric.update(torch.randn(11, 3), torch.randn(11, 3), torch.arange(11))
    result = metric.compute()
    assert (result["groups"], result["samples"]) == (2, 11)


def test_fewer_samples_than_a_group() -> None:
    metric = RPrecision()
    metric.update(torch.randn(31, 3), torch.randn(31, 3), torch.arange(31))
    with pytest.warns(UserWarning, match="undefined: 31 samples hold no group of 32"):
        result = metric.compute()
    assert result["r_precision_3"].isnan()
    assert result["mm_dist"].isnan()


def test_other_seeds_are_other_groups() -> None:
    text = torch.randn(96, 4)
    motion = text + torch.randn(96, 4)
    assert not torch.equal(make_groups(96, 32, 0), make_groups(96, 32, 1))
    scores = {float(r_precision(text, motion, seed=seed)["r_precision_1"]) for seed in range(5)}
    assert len(scores) > 1


@settings(max_examples=50, deadline=None)
@given(label=st.lists(st.integers(0, 6), max_size=40), group=st.integers(2, 5), seed=st.none() | st.integers(0, 9))
def test_no_group_has_a_label_twice(label: list[int], group: int, seed: int | None) -> None:
    labels = torch.tensor(label, dtype=torch.long)
    groups = label_groups(labels, group, seed)
    assert groups.shape[1] == group
    assert groups.unique().numel() == groups.numel()
    for one in groups:
        assert labels[one].unique().numel() == group
    # As many groups as there can be: one more could not be filled.
    more = len(groups) + 1
    assert sum(min(count, more) for count in Counter(label).values()) < more * group


def test_labels_for_some_only() -> None:
    metric = RPrecision(group=2, top=1)
    metric.update(torch.randn(2, 3), torch.randn(2, 3), [0, 1])
    metric.update(torch.randn(2, 3), torch.randn(2, 3), [2, 3], label=[0, 1])
    with pytest.raises(MotionGPT3Error, match="label"):
        metric.compute()


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(MotionGPT3Error, match="embeddings"):
        RPrecision().update(torch.randn(4, 3), torch.randn(4, 2), torch.arange(4))
    with pytest.raises(MotionGPT3Error, match="a threshold and the sentence similarity go together"):
        contrastive_scores(torch.randn(4, 4), threshold=0.9)
    with pytest.raises(MotionGPT3Error, match="square"):
        contrastive_scores(torch.randn(4, 3))
