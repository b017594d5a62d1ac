"""Training the evaluator: which pairs are negatives, parts and mirror images, resuming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.tmr import TMRConfig
from motiongpt3.motion.features import mirror_features
from motiongpt3.motion.motion import mirror_text
from motiongpt3.training import evaluator as sentence_table
from motiongpt3.training.evaluator import (
    EvaluatorTraining,
    EvaluatorTrainingConfig,
    PairBatch,
    no_negatives,
    train_evaluator,
)
from motiongpt3.training.trainer import fit

Make = Callable[..., EvaluatorTraining]


@pytest.fixture
def config(packed: Path, run: Callable, tiny_sentences: Path) -> Callable[..., EvaluatorTrainingConfig]:
    sizes = {"channels": 8, "width": 16, "layers": 1, "heads": 2, "mlp_width": 16, "text_width": 16, "max_frames": 40}

    def build(name: str = "run", sentence_channels: int = 32, **changes: Any) -> EvaluatorTrainingConfig:
        model = TMRConfig(sentences=str(tiny_sentences), sentence_channels=sentence_channels, **sizes)
        own = {key: changes.pop(key) for key in ("crop", "noise", "alike") if key in changes}
        return EvaluatorTrainingConfig(run(name, **changes), [packed], model, batch=8, **own)

    return build


@pytest.fixture
def make(config: Callable) -> Make:
    return lambda name="run", **changes: EvaluatorTraining(config(name, **changes))


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(make: Make, survives_a_kill: Callable) -> None:
    survives_a_kill(lambda name: make(name, noise=0.1))


@pytest.mark.slow
def test_captions_come_to_find_their_motions(make: Make) -> None:
    module = make(steps=60, validate_every=30, checkpoint_minutes=60.0, alike=1.0)
    batch = module.draw(1000)
    before = module.loss(module.network.embed_clips(batch.motions), batch)[0]
    fit(module, progress=False)
    module.eval()
    assert module.loss(module.network.embed_clips(batch.motions), batch)[0] < 0.8 * before
    text = (Path(module.run.out) / "metrics" / "metrics.csv").read_text()
    assert "val/r_precision_1" in text.splitlines()[0]


def test_a_batch_is_of_its_step_alone_and_its_captions_are_true(make: Make, packed: Path) -> None:
    module, pack = make(), PackedClips.open(packed)
    batch, again = module.draw(3), module.draw(3)
    assert batch.texts == again.texts
    assert all(torch.equal(a, b) for a, b in zip(batch.motions, again.motions, strict=True))
    assert module.draw(4).texts != batch.texts
    seen = set()
    for step in range(8):
        batch = module.draw(step)
        for motion, text, action, name in zip(batch.motions, batch.texts, batch.actions, batch.clips, strict=True):
            index = next(i for i, clip in enumerate(pack.clips) if clip.id == name)
            clip, whole = pack.clips[index], torch.from_numpy(pack.clip_features(index).copy())
            assert clip.split == "train"
            places = range(clip.frames - len(motion) + 1)
            plain = any(torch.equal(motion, whole[at : at + len(motion)]) for at in places)
            turned = any(torch.equal(motion, mirror_features(whole[at : at + len(motion)])) for at in places)
            said = text if plain else mirror_text(text)
            assert plain != turned
            assert action == (clip.short if plain else mirror_text(clip.short))
            part = len(motion) < clip.frames
            assert not part or clip.crop_safe[clip.captions.index(said)]
            assert said in clip.captions
            seen.add((part, turned))
    assert len(seen) == 4


def test_what_says_the_same_is_no_negative() -> None:
    texts = ["raises the left hand", "raises the right hand", "lifts the left hand", "walks", "walks about"]
    actions = ["raise left", "raise right", "lift left", "walk", "walk"]
    batch = PairBatch([], texts, actions, [])
    vectors = torch.zeros(5, 6)
    vectors[:3, 3] = 1.0  # the last half says that the first three are alike
    vectors[3, 4] = vectors[4, 5] = 1.0
    left_out = no_negatives(batch, vectors, 0.9)
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = True  # alike, and the same side
    expected[3, 4] = expected[4, 3] = True  # the same action
    assert torch.equal(left_out, expected)


@torch.no_grad()
def test_the_loss_by_hand(make: Make) -> None:
    """A motion against all captions that are negatives and its own one with sides, or directions, swapped."""
    module = make().eval()
    vectors = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    texts = ["somebody turns left", "a person walks number 1", "somebody turns right", "somebody turns left"]
    batch = PairBatch([], texts, ["turn left", "walk", "turn right", "turn left"], [])
    embed = {text: module.network.embed_sentences(module.table([text]))[0] for text in texts}
    swapped = {"somebody turns left": "somebody turns right", "somebody turns right": "somebody turns left"}
    scale = 1 / 0.07

    def minus_log(own: float, others: list[float]) -> float:
        values = torch.tensor([own, *others]) * scale
        return float(values.logsumexp(0) - values[0])

    total = 0.0
    for row, text in enumerate(texts):
        others = [i for i in range(4) if i != row and batch.actions[i] != batch.actions[row]]
        own = float(vectors[row] @ embed[text])
        wrong = [float(vectors[row] @ embed[swapped[text]])] if text in swapped else []
        total += minus_log(own, [float(vectors[row] @ embed[texts[i]]) for i in others] + wrong) / 8
        total += minus_log(own, [float(vectors[i] @ embed[text]) for i in others]) / 8
    assert float(module.loss(vectors, batch)[0]) == pytest.approx(total, rel=1e-4)


def test_the_vectors_of_sentences_are_kept(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    monkeypatch.setattr(sentence_table, "SentenceEncoder", lambda name: pytest.fail(f"{name} was loaded again"))
    second = make()
    assert torch.equal(first.table.vectors, second.table.vectors)
    assert second.table.sha256 == first.table.sha256
    monkeypatch.undo()
    (Path(first.run.out) / "sentences.safetensors").write_bytes(b"damaged")
    assert torch.equal(make().table.vectors, first.table.vectors)


def test_the_exported_evaluator_is_the_trained_one(config: Callable) -> None:
    from motiongpt3.evaluation.tmr import load_evaluator

    folder = train_evaluator(config(), progress=False)
    evaluator = load_evaluator(str(folder))
    assert evaluator.embed_texts(["a person walks number 1"]).shape == (1, 8)
    assert evaluator.network.feature_std.max() > 0
    assert not torch.equal(evaluator.network.feature_mean, torch.zeros(263))


def test_sizes_that_do_not_fit(make: Make) -> None:
    with pytest.raises(MotionGPT3Error, match="must be 32"):
        make(sentence_channels=16)


def test_clips_without_captions_are_left_out(make: Make, packed: Path, config: Callable, tmp_path: Path) -> None:
    pack = PackedClips.open(packed)

    def write(name: str, silent: Callable[[int], bool]) -> Path:
        changed = [
            replace(clip, captions=(), crop_safe=()) if silent(index) else clip for index, clip in enumerate(pack.clips)
        ]
        rows = ((clip, pack.clip_features(i), pack.clip_joints(i)) for i, clip in enumerate(changed))
        return PackedClips.write(tmp_path / name, rows).path

    some = EvaluatorTraining(replace(config(), data=[write("some.safetensors", lambda index: index > 1)]))
    assert {name for step in range(5) for name in some.draw(step).clips} == {"clip_0", "clip_1"}
    fit(some, progress=False)  # the val split has no captions at all
    with pytest.raises(MotionGPT3Error, match="no captions in its train split"):
        EvaluatorTraining(replace(config(), data=[write("none.safetensors", lambda _: True)]))
