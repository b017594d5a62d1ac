"""The evaluator's networks and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from motiongpt3.evaluation.guo import GuoEvaluator
from motiongpt3.evaluation.metrics import FID, Diversity, MultiModality, ReconstructionErrors, RPrecision
from motiongpt3.evaluation.metrics.retrieval import contrastive_scores, r_precision
from motiongpt3.official.convert import convert_evaluator
from motiongpt3.serialization import write_folder

BAR = 1e-5
Read = Callable[[str], Any]
Close = Callable[..., None]


@pytest.fixture
def inputs(read: Read) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in read("metrics_inputs.npz").items()}


@pytest.fixture
def wanted(read: Read) -> dict[str, Any]:
    return read("metrics_outputs.json")


def test_the_evaluator(read: Read, close: Close, tmp_path: Path) -> None:
    """Packed, as Guo et al. do, and over the padding, as the official evaluation does."""
    weights, record = (read(f"t2m_evaluator_tiny_{kind}.safetensors") for kind in ("weights", "io"))
    made = convert_evaluator(weights, torch.zeros(263), torch.ones(263))
    write_folder(tmp_path, made.config, made.tensors)
    evaluator = GuoEvaluator.load(tmp_path)
    features, lengths = record["feats"], record["motion_len"]
    words = evaluator.embed_text(record["word_embs"], record["pos_onehot"], record["text_len"])
    close(words, record["text_emb"], BAR)
    close(evaluator.movements(features), record["movement"], BAR)
    close(evaluator.embed_motion(features, lengths), record["motion_emb_guo_packed"], BAR)
    close(evaluator.embed_motion(features, lengths, packed=False), record["motion_emb_official_unpacked"], BAR)


def test_r_precision_and_mm_dist(inputs: dict[str, Tensor], wanted: dict[str, Any], close: Close) -> None:
    metric = RPrecision(seed=None)
    metric.update(inputs["A"], inputs["B"], torch.arange(len(inputs["A"])))
    result = metric.compute()
    close([float(result[f"r_precision_{k}"]) for k in (1, 2, 3)], wanted["R_precision"], BAR)
    close(float(result["mm_dist"]), wanted["Matching_score"], BAR)
    assert result["groups"] == len(inputs["A"]) // 32
    first = r_precision(inputs["A"][:32], inputs["B"][:32], seed=None)
    close([32 * float(first[f"r_precision_{k}"]) for k in (1, 2, 3)], wanted["top_k_sum"], BAR)
    close(32 * float(first["mm_dist"]), wanted["matching_trace"], BAR)


def test_fid_diversity_and_multimodality(inputs: dict[str, Tensor], wanted: dict[str, Any], close: Close) -> None:
    fid, diversity, multimodality = FID(), Diversity(seed=64), MultiModality(seed=65)
    for batch in torch.arange(len(inputs["C"])).split(64):
        fid.update(inputs["C"][batch], batch, real=True)
        fid.update(inputs["D"][batch], batch)
        diversity.update(inputs["C"][batch], batch)
    multimodality.update(inputs["MM"], torch.arange(len(inputs["MM"])))
    close(float(fid.compute()["fid"]), wanted["FID"], BAR)
    close(float(diversity.compute()["diversity"]), wanted["Diversity_seed64"], BAR)
    close(float(multimodality.compute()["multimodality"]), wanted["MultiModality_seed65"], BAR)


def test_joint_errors(inputs: dict[str, Tensor], wanted: dict[str, Any], close: Close) -> None:
    """The recorded numbers are sums over frames, over two fewer for accelerations, in the joints' unit."""
    prediction, target = inputs["S1"][None], inputs["S2"][None]
    frames = prediction.shape[1]
    metric = ReconstructionErrors(fps=1.0)
    metric.update(prediction, target, [0])
    result = metric.compute()
    close(float(result["root_aligned_mpjpe"]) * frames / 1000, wanted["mpjpe"], BAR)
    close(float(result["pa_mpjpe"]) * frames / 1000, wanted["pampjpe"], BAR)
    close(float(result["acceleration_error"]) * (frames - 2), wanted["accel"], BAR)


def test_retrieval_as_in_tmr(inputs: dict[str, Tensor], wanted: dict[str, Any]) -> None:
    similarity, sentence = inputs["sims"], inputs["emb"]
    for scores, key in (
        (contrastive_scores(similarity), "tmr_contrastive"),
        (contrastive_scores(similarity, sentence @ sentence.T, 0.95), "tmr_contrastive_threshold0.95"),
    ):
        # The recorded numbers are rounded to two decimals.
        assert {name: round(float(value), 2) for name, value in scores.items()} == wanted[key]
