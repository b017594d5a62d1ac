"""Folders the tests read; each can be moved by an environment variable."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN_PARITY = Path(__file__).resolve().parent / "golden" / "parity"


def _folder(variable: str, default: Path) -> Path:
    """The folder that a variable names, or the default.

    Where it is absent the test is skipped; on a build server (CI is set) it fails, unless the variable says "none".
    """
    named = os.environ.get(variable)
    folder = Path(named or default)
    if not folder.is_dir():
        absent = pytest.fail if os.environ.get("CI") and named != "none" else pytest.skip
        absent(f"no folder {folder}: set {variable}")
    return folder


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Inputs, weights and outputs of the official architecture: all of them, or those that are in the repository."""
    return _folder("PARITY_DIR", SHARED / "parity" if (SHARED / "parity").is_dir() else GOLDEN_PARITY)


@pytest.fixture(scope="session")
def parity_file(parity_dir: Path) -> Callable[[str], Path]:
    """The path of a recorded file by its name; the test is skipped if it is one that the repository does not hold."""

    def path(name: str) -> Path:
        if not (parity_dir / name).exists():
            pytest.skip(f"{parity_dir} has no {name}: set PARITY_DIR")
        return parity_dir / name

    return path


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """Raw motion files as their sources publish them."""
    return _folder("SAMPLES_DIR", SHARED / "data" / "raw_samples")


@pytest.fixture(scope="session")
def mocap_dir() -> Path:
    """The captioned motion capture that `mini` is trained on."""
    return _folder("MOCAP_DIR", SHARED / "data" / "mocap")


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama-style language model of 30 words: config.json, tokenizer.json, model.safetensors."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    words = "<unk> user assistant a person somebody walks runs jumps waves forward left right and then motion end ."
    vocabulary = {word: number for number, word in enumerate(words.split())}
    folder = tmp_path_factory.mktemp("backbone")
    sizes = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    ids = {"vocab_size": 30, "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": True}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**sizes, **heads, **ids)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def tiny_model_dir(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random MotionGPT3 on `tiny_backbone`, which makes at most 5 s; it must not be changed."""
    import torch

    from motiongpt3.models.backbone import load_backbone
    from motiongpt3.models.config import MotionGPT3Config
    from motiongpt3.models.diffusion_head import HeadConfig
    from motiongpt3.models.motiongpt3 import MotionGPT3
    from motiongpt3.models.vae import VAEConfig

    vae = VAEConfig(
        latent_tokens=2, latent_channels=8, width=16, layers=3, heads=2, mlp_width=16, positions=32, max_frames=100
    )
    head = HeadConfig(queries=2, hidden=16, latent_tokens=2, latent_channels=8, width=16, depth=1, pool_mlp=16)
    config = MotionGPT3Config(
        backbone=str(tiny_backbone), motion_width=16, motion_mlp=16, queries=2, vae=vae, head=head, steps=2
    )
    torch.manual_seed(1)
    model = MotionGPT3(config, load_backbone(str(tiny_backbone)))
    model.vae.feature_std.fill_(0.01)  # Near a standing pose at the origin, as random weights should be.
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder, include_backbone=True)
    return folder


@pytest.fixture(scope="session")
def tiny_reader_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model_dir`, of stage 2: it reads motions of 1 to 5 s. Its weights are large, so that mistakes show."""
    from dataclasses import replace

    import torch

    from motiongpt3.models.motiongpt3 import MotionGPT3

    first = MotionGPT3.from_pretrained(tiny_model_dir)
    torch.manual_seed(2)
    model = MotionGPT3(replace(first.config, stage=2), first.backbone)
    model.vae.load_state_dict(first.vae.state_dict())
    with torch.no_grad():
        for stream in (model.motion, model.backbone.stream):
            for name, parameter in stream.named_parameters():
                if "norm" not in name:
                    parameter.mul_(8)
        model.backbone.special.normal_(std=0.02)
        for parameter in model.understand.parameters():
            if parameter.ndim > 1:
                parameter.normal_()
        model.shown.normal_()
        model.queries.normal_()
        model.head.no_condition.normal_()
    folder = tmp_path_factory.mktemp("reader")
    model.save_pretrained(folder, include_backbone=True)
    return folder


@pytest.fixture(scope="session")
def tiny_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mocap folder of 8 clips of 40 to 75 frames, all splits, two sources: standing people who sway and drift."""
    import json

    import numpy as np

    from motiongpt3.motion.skeleton import HUMANML3D

    pose = np.zeros((len(HUMANML3D), 3))
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[:, 1] -= pose[:, 1].min()
    roots, offsets, records = [], [], []
    for number in range(8):
        time = np.arange(40 + 5 * number)[:, None]
        drift = np.concatenate([0.01 * (number + 1) * time * 0.1, 0 * time + pose[0, 1], 0.02 * time], axis=1)
        sway = 0.02 * (number + 1) * np.sin(time / 5)[..., None] * np.array([1.0, 0, 0]) * (pose[:, 1:2] - pose[0, 1])
        roots.append(drift)
        offsets.append((pose - pose[0])[None] + sway)
        records.append(
            {
                "id": f"{'AB'[number % 2]}_{number}",
                "source": f"studio {'AB'[number % 2]}",
                "license": "CC0-1.0" if number % 2 else "MIT",
                "split": ("train", "train", "train", "train", "val", "val", "test", "test")[number],
                "frames": len(time),
                "offset": sum(map(len, roots[:-1])),
                "label": "walk",
                "short": "walk forward",
                "captions": [f"a person walks forward {'and then waves' if number % 2 else ''}.", "somebody walks."],
                "crop_safe": [False, True],
            }
        )
    folder = tmp_path_factory.mktemp("mocap")
    np.savez(
        folder / "joints.npz",
        root=np.concatenate(roots).astype(np.float32),
        offsets=(np.concatenate(offsets) / 1e-4).round().astype(np.int16),
        metres_per_unit=np.float32(1e-4),
        fps=np.float32(20),
    )
    (folder / "clips.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture(scope="session")
def tiny_sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random BERT of 24 words as a sentence encoder: config.json, tokenizer.json, model.safetensors."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    words = (
        "[PAD] [UNK] a person somebody walks runs jumps waves turns forward backward left right hand and then number"
    )
    vocabulary = {word: number for number, word in enumerate([*words.split(), *"012345"])}
    folder = tmp_path_factory.mktemp("sentences")
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=24, max_position_embeddings=32, **sizes)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def tiny_evaluator_dir(tiny_sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random evaluator of 8 channels that sees 40 frames at once."""
    import torch

    from motiongpt3.evaluation.tmr import TMR, TMRConfig

    sizes = {"channels": 8, "width": 16, "layers": 1, "heads": 2, "mlp_width": 16, "text_width": 16, "max_frames": 40}
    torch.manual_seed(4)
    network = TMR(TMRConfig(sentences=str(tiny_sentences), sentence_channels=32, **sizes))
    folder = tmp_path_factory.mktemp("evaluator")
    network.save(folder, "", None)
    return folder
