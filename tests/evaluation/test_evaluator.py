"""The evaluator as others use it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from motiongpt3 import Motion
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation import evaluator as module
from motiongpt3.evaluation import sentences
from motiongpt3.evaluation.evaluator import EMBEDDED, MotionTextEvaluator, load_evaluator
from motiongpt3.motion.features import canonicalise, features_to_joints, joints_to_features
from motiongpt3.motion.skeleton import HUMANML3D


@pytest.fixture
def evaluator(tiny_evaluator_dir: Path) -> MotionTextEvaluator:
    return load_evaluator(str(tiny_evaluator_dir))


def sway(frames: int, seed: int = 0, fps: float = 20.0) -> Motion:
    """Somebody who sways and drifts, facing anywhere."""
    rng = np.random.default_rng(seed)
    joints = np.zeros((frames, 22, 3))
    for joint in range(1, 22):
        joints[:, joint] = joints[:, HUMANML3D.parents[joint]] + HUMANML3D.rest_offsets[joint]
    time = np.arange(frames)[:, None, None] / 6
    return Motion(joints + 0.05 * np.sin(time + rng.normal(size=(1, 22, 3))) + [0.01, 0, 0.05] * time, fps)


def test_motions_and_features_agree(evaluator: MotionTextEvaluator) -> None:
    motions = [sway(30, 1), sway(90, 2), sway(20, 3)]
    vectors = evaluator.embed_motions(motions)
    assert vectors.shape == (3, evaluator.channels) == (3, 8)
    assert vectors.dtype == torch.float32
    features = [joints_to_features(canonicalise(torch.from_numpy(motion.joints.copy()))) for motion in motions]
    padded = torch.nn.utils.rnn.pad_sequence(features, True)
    lengths = torch.tensor([30, 90, 20])
    torch.testing.assert_close(evaluator.embed_features(padded, lengths), vectors, rtol=1e-4, atol=1e-4)
    recovered = [Motion(features_to_joints(one).numpy()) for one in features]
    torch.testing.assert_close(evaluator.embed_motions(recovered), vectors, rtol=1e-3, atol=1e-3)


def test_place_direction_and_frame_rate_do_not_matter(evaluator: MotionTextEvaluator) -> None:
    motion = sway(60)
    vector = evaluator.embed_motions([motion])
    turned = motion.joints[..., [2, 1, 0]] * np.array([1, 1, -1], dtype=np.float32) + np.float32([3, 0.5, -2])
    torch.testing.assert_close(evaluator.embed_motions([motion.replace(joints=turned)]), vector, rtol=1e-3, atol=1e-3)
    finer = motion.resample(60.0)
    torch.testing.assert_close(evaluator.embed_motions([finer]), vector, rtol=1e-3, atol=1e-3)
    assert (evaluator.embed_motions([motion.mirror()]) - vector).abs().max() > 1e-3


def test_one_frame_is_a_motion(evaluator: MotionTextEvaluator) -> None:
    assert torch.isfinite(evaluator.embed_motions([sway(1)])).all()
    assert evaluator.embed_motions([]).shape == (0, 8)


def test_texts_are_read_once(evaluator: MotionTextEvaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a person walks", "somebody waves", "a person walks"]
    vectors = evaluator.embed_texts(texts)
    assert vectors.shape == (3, 8)
    assert torch.equal(vectors[0], vectors[2])
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    monkeypatch.setattr(module, "MOST_TEXTS", 2)
    assert evaluator._sentences is not None
    monkeypatch.setattr(evaluator._sentences, "forward", lambda texts: pytest.fail(f"read again: {texts}"))
    assert torch.equal(evaluator.embed_texts(texts[::-1]), vectors[[2, 1, 0]])
    monkeypatch.undo()
    monkeypatch.setattr(module, "MOST_TEXTS", 2)
    again = evaluator.embed_texts(["a person jumps", "somebody waves"])
    torch.testing.assert_close(again[1], vectors[1])
    assert evaluator.embed_texts([]).shape == (0, 8)


def test_motions_need_no_sentence_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluator of the package: its motion half works without the package that its text half names."""
    monkeypatch.setattr(sentences, "find_spec", lambda _: None)
    evaluator = load_evaluator()
    assert evaluator.name == "mocap"
    assert len(evaluator.sha256) == 64
    assert evaluator.embed_motions([sway(40)]).shape == (1, evaluator.channels)
    assert evaluator.channels <= 128
    with pytest.raises(MotionGPT3Error, match="pip install"):
        evaluator.embed_texts(["a person walks"])


def test_the_package_carries_a_small_network_with_a_card() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED.iterdir()) < 8_000_000
    assert "cc-by-nc-4.0" in (EMBEDDED / "README.md").read_text()


def test_what_is_no_evaluator(tmp_path: Path, tiny_model_dir: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="no evaluator"):
        load_evaluator("nonsense")
    with pytest.raises(MotionGPT3Error, match="no model folder"):
        load_evaluator(str(tmp_path))
    with pytest.raises(MotionGPT3Error, match="no text-motion evaluator"):
        load_evaluator(str(tiny_model_dir))
    with pytest.raises(MotionGPT3Error, match="cannot use the device 'nonsense'"):
        load_evaluator(device="nonsense")


def test_half_precision_around_it_changes_nothing(evaluator: MotionTextEvaluator) -> None:
    features, lengths = torch.randn(2, 30, 263), torch.tensor([30, 20])
    plain = evaluator.embed_features(features, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(evaluator.embed_features(features, lengths), plain)
