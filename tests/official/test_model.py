"""A converted model: every task under both profiles, what it decides by itself, and round trips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.chat import Reply
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.official.model import OfficialMotionGPT3


@pytest.fixture(scope="module")
def standing() -> Motion:
    """Two seconds of somebody who glides forward."""
    pose = np.zeros((22, 3))
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[:, 1] -= pose[:, 1].min()
    return Motion(pose[None] + 0.01 * np.arange(40)[:, None, None] * np.array([0, 0, 1.0]), 20)


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["official", "default"])
def test_every_task(official_folder: Path, standing: Motion, profile: Any) -> None:
    model = MotionGPT3.from_pretrained(official_folder, profile=profile)
    model.vae.feature_std.fill_(0.01)  # near a standing pose, as random weights should be
    assert model.config.steps == {"official": 100, "default": 20}[profile]
    pair = model.generate(["A person walks", "a man jumps"], seconds=[1.5, None], seed=3, steps=5)
    assert len(pair[0]) == 30
    assert len(pair[1]) in range(80, 141, 4)  # no length head: drawn from the seed
    alone = model.generate("a man jumps", seed=3, steps=5)
    np.testing.assert_allclose(alone.joints, pair[1].joints, atol=1e-4)
    said = model.caption([standing, standing[:30]])
    assert all(isinstance(text, str) for text in said)
    longer = model.predict(standing, 1.0, steps=5)
    assert np.array_equal(longer.joints[:40], standing.joints)
    assert len(longer) == 60
    assert len(model.predict(standing, 1.0, prompt="walks", steps=5)) == 60
    filled = model.inbetween(standing, standing, 1.0, steps=5)
    assert np.array_equal(filled.joints[-40:], standing.joints)
    assert len(model.compose([("walks", 1.0), "jumps"], steps=5)) > 40


@pytest.mark.parametrize(
    "content", ["wave", ["go on from ", "attached", " with <end_of_motion> and <motion_latent_holder>"]]
)
def test_a_converted_model_decides_what_to_answer_with(
    official: OfficialMotionGPT3, standing: Motion, content: str | list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where <start_of_motion> is likeliest a motion follows, where the end of the text is nothing does."""
    backbone, logits = official.backbone, official.backbone.logits

    def answer(*likeliest: int) -> Reply:
        left = list(likeliest)

        def forced(hidden: Tensor) -> Tensor:
            scores = logits(hidden)
            scores[:, left.pop(0) if left else backbone.eos_id] = 1e4
            return scores

        monkeypatch.setattr(backbone, "logits", forced)
        parts = [standing if part == "attached" else part for part in content] if isinstance(content, list) else content
        return official.chat([{"role": "user", "content": parts}], steps=3)

    assert answer(backbone.eos_id) == Reply("")
    word = backbone.tokenizer.encode("walk", add_special_tokens=False).ids[0]
    said = answer(word, backbone.eos_id)
    assert (said.text, said.motion) == (backbone.decode([word]).strip().capitalize(), None)
    both = answer(word, backbone.start_of_motion)
    assert both.text == said.text
    assert both.motion is not None
    assert len(both.motion) in range(80, 141, 4)


def test_the_official_profile_keeps_letters_and_bones(
    official: OfficialMotionGPT3, official_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt is read as it was written, and joints are the recovered features; the default profile cleans both."""
    asked: list[str] = []
    for model in (official, MotionGPT3.from_pretrained(official_folder, profile="default")):
        assert isinstance(model, OfficialMotionGPT3)
        rows = model.rows
        monkeypatch.setattr(model, "rows", lambda task, texts, rows=rows: asked.extend(texts) or rows(task, texts))
        model.generate("A man  Jumps", seconds=1, steps=1)
    assert asked == ["A man  Jumps", "a man jumps."]


def test_only_converted_models_have_profiles(tiny_model_dir: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="only a converted"):
        MotionGPT3.from_pretrained(tiny_model_dir, profile="official")


def test_a_round_trip_is_bitwise(official: OfficialMotionGPT3, tmp_path: Path) -> None:
    """Saved and loaded anywhere, the same model says and draws the same; the profile stays."""
    official.save_pretrained(tmp_path)
    again = MotionGPT3.from_pretrained(tmp_path)
    assert again.config == official.config
    state = again.state_dict()
    assert state.keys() == official.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in official.state_dict().items())
    one, other = (model.generate("a man jumps", seconds=1, seed=5) for model in (official, again))
    assert np.array_equal(one.joints, other.joints)
    assert again.backbone.tokenizer.to_str() == official.backbone.tokenizer.to_str()
