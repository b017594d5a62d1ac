"""What repeats share: seeds apart, what is embedded once, rows that are not finite, and counts per class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.protocols import PROTOCOLS, Item
from motiongpt3.evaluation.session import (
    QUALITY,
    EvaluationRequest,
    Measured,
    Outcome,
    PreparedEvaluation,
    Session,
    Workers,
    batches,
    measured,
    nearest_classes,
    per_class,
    quality_means,
)

LABELS = ("walk forward", "walk forward slowly", "jump", "jump")


class Evaluator:
    """Embeds a motion by its first pelvis and a text by its length, and remembers the batches."""

    channels = 3

    def __init__(self) -> None:
        self.texts: list[list[str]] = []
        self.motions: list[int] = []

    def embed_motions(self, motions: Sequence[Any]) -> torch.Tensor:
        self.motions.append(len(motions))
        return torch.stack([torch.from_numpy(motion.joints[0, 0].copy()) for motion in motions])

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        self.texts.append(texts)
        return torch.tensor([[float(len(text)), 0, 0] for text in texts])


@pytest.fixture
def evaluator() -> Evaluator:
    return Evaluator()


@pytest.fixture
def session(pack: PackedClips, evaluator: Evaluator) -> Session:
    request = EvaluationRequest("t2m", "", seed=5)
    items = [Item(n, f"clip {n}", 24 + 3 * n, (f"caption {n}",), label) for n, label in enumerate(LABELS)]
    ready = PreparedEvaluation(request, PROTOCOLS["mocap"], pack, items, 1)
    return Session(ready, Workers(request, SimpleNamespace(evaluator=evaluator)), lambda _: None)


def test_seeds_of_repeats_and_streams_are_a_million_apart(session: Session) -> None:
    first = {session.first_seed(repeat, stream) for repeat in range(20) for stream in range(10)}
    assert len(first) == 200
    assert min(abs(a - b) for a in first for b in first if a != b) == 1_000_000
    assert session.first_seed(0) == 5 * 10_000 * 10 * 1_000_000
    assert session.first_seed(2, 3) == ((5 * 10_000 + 2) * 10 + 3) * 1_000_000


def test_a_caption_is_embedded_once(session: Session, evaluator: Evaluator) -> None:
    assert session.texts(["a", "ccc", "a"])[:, 0].tolist() == [1, 3, 1]
    assert session.texts(["ccc", "bb"])[:, 0].tolist() == [3, 2]
    assert evaluator.texts == [["a", "ccc"], ["bb"]]


def test_recordings_are_embedded_again_only_if_they_are_others(session: Session, evaluator: Evaluator) -> None:
    takes = session.plan(0)
    once = session.real(takes)
    assert session.real(takes) is once
    assert evaluator.motions == [4]
    np.testing.assert_array_equal(once.vectors, [session.recorded(take)[0, 0] for take in takes])
    session.real([replace(take, frames=take.frames - 1) for take in takes])
    assert evaluator.motions == [4, 4]


def test_what_is_not_finite_keeps_its_row(evaluator: Evaluator) -> None:
    clips = [np.full((30, 22, 3), value, np.float32) for value in (1, np.nan, 2, 1e6)]
    found = measured(SimpleNamespace(evaluator=evaluator), clips)
    assert evaluator.motions == [2]
    np.testing.assert_array_equal(found.vectors[[0, 2]], [[1, 1, 1], [2, 2, 2]])
    assert np.isnan(found.vectors[[1, 3]]).all()
    assert np.isnan(found.quality).all(axis=1).tolist() == [False, True, False, True]
    both = Measured.joined([found, found])
    assert both.vectors.shape == (8, 3)


def test_means_leave_out_what_is_not_finite() -> None:
    rows = np.array([[1.0, 2, 3, 4, 5], [np.nan] * 5, [3, 2, 1, 0, 5]])
    assert quality_means(rows) == dict(zip(QUALITY, (2, 2, 2, 2, 5), strict=True))
    assert all(math.isnan(value) for value in quality_means(rows[1:2]).values())


def test_counts_per_class(session: Session) -> None:
    """The class of a label is its action without its manner."""
    places = torch.arange(4)
    found = per_class(session, (places, torch.tensor([0, 3, 2, 9])), (places, torch.tensor([0, 1, 7, 2])))
    assert found == {"jump": [1, 2, 1], session.classes[0]: [1, 2, 2]}
    assert session.classes[0] == session.classes[1]


def test_the_nearest_recording_is_another_clips(session: Session) -> None:
    """Each motion lies on its own recording, which does not count; the one that is not finite does not either."""
    real = np.array([[0, 0], [1, 0], [1.4, 0], [9, 0]], np.float32)
    made = real.copy()
    made[0] = np.nan
    walk = session.classes[0]
    assert nearest_classes(session, made, real) == [("jump", "jump", 1), ("jump", walk, 1), (walk, "jump", 1)]


def test_what_is_undefined_is_null_in_the_report() -> None:
    found = Outcome({"fid": math.nan, "mm_dist": 1.5}, columns={"jitter": [math.inf, 0.12345678]}).as_dict()
    assert found["generated"] == {"fid": None, "mm_dist": 1.5}
    assert found["columns"] == {"jitter": [None, 0.123457]}


def test_batches_are_consecutive() -> None:
    assert batches(range(7), 3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches([], 3) == []


def test_processes_that_cannot_be() -> None:
    request = EvaluationRequest("t2m", "", processes=0)
    with pytest.raises(MotionGPT3Error, match="a process at least, not 0"):
        Workers(request)
    with pytest.raises(MotionGPT3Error, match="load the model themselves"):
        Workers(replace(request, processes=2), SimpleNamespace())
