"""Published checkpoints under our names: equal numbers, complete, or refused by the name of a tensor."""

from __future__ import annotations

import json
import math
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_checkpoint import STATISTICS, VAE, old_names, vae_tensors
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from motiongpt3.cli.main import main
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.guo import GuoConfig, GuoEvaluator
from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.bimodal import BimodalTransformer, Stream, Tokens
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.vae import MotionVAE, VAEConfig
from motiongpt3.official.convert import (
    EVALUATOR_NAMES,
    Converted,
    convert_evaluator,
    convert_gpt2,
    convert_mld_vae,
    convert_official,
    read_statistics,
    read_tokenizer_folder,
)
from motiongpt3.serialization import load_weights, parse_config, read_config, write_folder

Capture = pytest.CaptureFixture[str]
MEAN, STD = torch.linspace(-1, 1, 263), torch.linspace(0.1, 1, 263)
GUO = GuoConfig(word_channels=6, text_width=8, movement_width=5, movement_channels=7, motion_width=10, channels=9)


def evaluator_tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return old_names(GuoEvaluator(GUO).state_dict(), EVALUATOR_NAMES)


PARTS: list[Any] = [
    (vae_tensors, convert_mld_vae, "encoder.norm.weight"),
    (evaluator_tensors, convert_evaluator, "text_encoder.hidden"),
]


def test_the_vae_and_its_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = MotionVAE(VAE).eval()
    inside = {f"vae.{name}": tensor for name, tensor in vae_tensors().items()} | {"denoiser.x": torch.ones(2)}
    made = convert_mld_vae(inside, MEAN, STD)
    assert made.ignored == ["denoiser.x"]
    assert made.mapped["vae.query_pos_encoder.pe"] == "encoder_positions"
    assert set(made.mapped) == set(inside) - {"denoiser.x"}
    write_folder(tmp_path, made.config, made.tensors)
    vae = MotionVAE(parse_config(VAEConfig, read_config(tmp_path)["vae"])).eval()
    load_weights(vae, tmp_path)
    features, lengths = torch.randn(2, 30, 263), torch.tensor([30, 22])
    for a, b in zip(vae(features, lengths), original(features, lengths), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(vae.normalise(MEAN), torch.zeros(263))
    latents = torch.randn(3, 1, 16)
    torch.testing.assert_close(vae.normalise_latents(latents), latents * 0.8457)
    alone = convert_mld_vae(vae_tensors(), MEAN, STD)
    assert alone.config == made.config
    assert alone.ignored == []


def test_the_official_sizes(parity_file: Callable[[str], Path]) -> None:
    """The keys and shapes of the released checkpoint: both parts are found in it and complete."""
    tensors = {}
    for line in parity_file("keys_full_model.txt").read_text().splitlines():
        name, _, rest = line.partition("\t")
        if name.startswith(("vae.", "metrics.")):
            tensors[name] = torch.ones(1).expand([int(size) for size in re.findall(r"\d+", rest.split("\t")[0])])
    made = convert_mld_vae(tensors, MEAN, STD)
    assert [made.config["vae"][name] for name in ("layers", "width", "mlp_width")] == [9, 256, 1024]
    assert sum(made.tensors[name].numel() for name in made.mapped.values()) == 18_032_135
    made = convert_evaluator(tensors, MEAN, STD)
    assert parse_config(GuoConfig, made.config["guo_evaluator"]) == GuoConfig()
    assert len(made.mapped) == 42
    assert all(name.startswith("metrics.TM2TMetrics.") for name in made.mapped)


def test_the_evaluator_round_trip(tmp_path: Path) -> None:
    made = convert_evaluator(evaluator_tensors() | {"extra": torch.ones(1)}, MEAN, STD)
    assert made.ignored == ["extra"]
    write_folder(tmp_path, made.config, made.tensors)
    loaded = GuoEvaluator.load(tmp_path)
    torch.manual_seed(0)
    original = GuoEvaluator(GUO)
    assert loaded.config == GUO
    for name, tensor in original.state_dict().items():
        if name not in STATISTICS:
            assert torch.equal(tensor, loaded.state_dict()[name])
    assert torch.equal(loaded.feature_std, STD)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_becomes_float(dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in vae_tensors().items()}
    made = convert_mld_vae(tensors, MEAN, STD)
    assert {tensor.dtype for tensor in made.tensors.values()} == {torch.float32}
    assert torch.equal(made.tensors["embed.weight"], tensors["skel_embedding.weight"].float())


@pytest.mark.slow
@pytest.mark.parametrize(("make", "convert", "name"), PARTS)
def test_what_does_not_fit_is_named(
    make: Callable[[], dict[str, Tensor]], convert: Callable[..., Converted], name: str
) -> None:
    good = make()
    assert convert(good, MEAN, STD).mapped.keys() == good.keys()
    for key in good:  # every single one is needed
        with pytest.raises(MotionGPT3Error, match=r"missing|does not fit"):
            convert({other: tensor for other, tensor in good.items() if other != key}, MEAN, STD)
    values = good[name]
    for change, message in [
        (None, f"{name} is missing"),
        (torch.cat([values, values]), f"{name} has shape"),
        (values.double(), f"{name} holds torch.float64"),
        (values.int(), f"{name} holds torch.int32"),
        (values.bool(), f"{name} holds torch.bool"),
        (values * math.nan, f"{name} holds values that are not finite"),
        (values / 0, f"{name} holds values that are not finite"),
    ]:
        tensors = {**good, name: change} if change is not None else {n: t for n, t in good.items() if n != name}
        with pytest.raises(MotionGPT3Error, match=message) as caught:
            convert(tensors, MEAN, STD)
        assert "\n" not in str(caught.value)
    for extra in (f"{name}2", name.replace("encoder", "encoder.x", 1)):
        with pytest.raises(MotionGPT3Error, match=f"unexpected tensor {extra}"):
            convert({**good, extra: values}, MEAN, STD)
    for tensors in ({}, {"model.embed_tokens.weight": torch.ones(3, 3)}):
        with pytest.raises(MotionGPT3Error, match="does not fit"):
            convert(tensors, MEAN, STD)
    for mean, std, message in [(MEAN[1:], STD, "262 numbers"), (MEAN, MEAN, "above 0"), (MEAN, STD[:0], "0 numbers")]:
        with pytest.raises(MotionGPT3Error, match=message):
            convert(good, mean, std)


def test_our_own_names_and_other_vaes_are_refused() -> None:
    good = vae_tensors()
    with pytest.raises(MotionGPT3Error, match=r"unexpected tensor embed\.bias"):
        convert_mld_vae({**good, "embed.bias": good["skel_embedding.bias"]}, MEAN, STD)
    with pytest.raises(MotionGPT3Error, match="unexpected tensor feature_mean"):
        convert_mld_vae({**good, "feature_mean": MEAN}, MEAN, STD)
    with pytest.raises(MotionGPT3Error, match="more than one latent token"):
        convert_mld_vae({**good, "global_motion_token": torch.ones(4, 16)}, MEAN, STD)
    many = {f"encoder.input_blocks.{number}.x": torch.ones(1) for number in range(5000)}
    with pytest.raises(MotionGPT3Error, match=r"1000[13] layers"):
        convert_mld_vae(good | many, MEAN, STD)
    for width in (0, 200_000, 18):
        tensors = {**good, "global_motion_token": torch.ones(1).expand(2, width)}
        with pytest.raises(MotionGPT3Error):
            convert_mld_vae(tensors, MEAN, STD)


def test_statistics_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3.0))
    assert read_statistics(tmp_path / "a.npy").tolist() == [0, 1, 2]
    for bad in (np.ones((2, 2)), np.array([math.nan]), np.array(["x"]), np.array([object()])):
        np.save(tmp_path / "b.npy", bad)
        with pytest.raises(MotionGPT3Error):
            read_statistics(tmp_path / "b.npy")


def test_a_checkpoint_without_guidance(checkpoint: dict[str, Tensor], tokenizer_folder: Path) -> None:
    """Stages 2 and 3 of the official configurations train none."""
    tokenizer, heads = read_tokenizer_folder(tokenizer_folder)
    bare = {name: tensor for name, tensor in checkpoint.items() if name != "lm.fake_latent"}
    made = convert_official(bare, torch.zeros(263), torch.ones(263), tokenizer, heads)
    assert made.config["guidance"] == 1.0
    assert made.config["head"]["condition_dropping"] == 0.0


@pytest.mark.slow
def test_what_does_not_fit_a_whole_model_is_named(checkpoint: dict[str, Tensor], tokenizer_folder: Path) -> None:
    tokenizer, heads = read_tokenizer_folder(tokenizer_folder)
    mean, std = torch.zeros(263), torch.ones(263)

    def refused(change: dict[str, Tensor | None], *words: str) -> None:
        state = {name: value for name, value in {**checkpoint, **change}.items() if value is not None}
        with pytest.raises(MotionGPT3Error) as caught:
            convert_official(state, mean, std, tokenizer, heads)
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)

    kinds = {re.sub(r"\d+", "N", name): name for name in checkpoint if name != "lm.fake_latent"}
    for name in kinds.values():  # every other one is needed
        refused({name: None}, "this checkpoint does not fit")
    inner = "lm.language_model.transformer.h.0.c_attn.fn.1.weight"
    values = checkpoint[inner]
    refused({inner: values.t().contiguous()[:-1]}, inner, "shape")
    refused({inner: values.double()}, inner, "float64")
    refused({inner: values.int()}, inner, "int32")
    refused({inner: values * math.nan}, inner, "not finite")
    refused({"lm.diffloss.extra": values}, "unexpected tensor lm.diffloss.extra")
    refused({"optimizer.x": values}, "unexpected tensor optimizer.x")
    head = checkpoint["lm.language_model.lm_head.weight"]
    refused({"lm.language_model.lm_head.weight": head + 1}, "lm_head.weight is not the table of words")
    refused({name: None for name in checkpoint if name.startswith("vae.")}, "no vae.*")
    refused({name: None for name in checkpoint if name.startswith("lm.")}, "missing")
    small = Tokenizer(models.WordLevel({str(i): i for i in range(5)}, unk_token="0"))
    with pytest.raises(MotionGPT3Error, match="tokenizer has 5 words"):
        convert_official(checkpoint, mean, std, small, heads)


class Bomb:
    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["BOMB"],))


@pytest.mark.slow
def test_bad_files_leave_nothing(
    checkpoint: dict[str, Tensor],
    tokenizer_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    np.save("mean.npy", np.zeros(263))
    np.save("std.npy", np.ones(263))
    torch.save({"state_dict": checkpoint, "hyper_parameters": Bomb()}, "bomb.ckpt")
    torch.save({"state_dict": checkpoint}, "good.ckpt")
    Path("cut.ckpt").write_bytes(Path("good.ckpt").read_bytes()[:-1000])
    torch.save({"state_dict": {"conv.weight": torch.ones(3)}}, "other.ckpt")
    with tarfile.open("path.ckpt", "w") as archive:
        archive.add("mean.npy", "../../escaped.npy")
    inside = sorted(tmp_path.rglob("*"))
    options = ["--tokenizer", str(tokenizer_folder), "--mean", "mean.npy", "--std", "std.npy"]
    for name, words in {
        "bomb": "could run code",
        "cut": "cut short or damaged",
        "other": "unexpected tensor conv.weight",
        "path": "no file of torch.save",
        "nowhere": "cannot read",
    }.items():
        assert main(["convert", "official", f"{name}.ckpt", "-o", "deep/model", *options]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert words in err
        assert sorted(tmp_path.rglob("*")) == inside
    assert main(["convert", "official", "good.ckpt", "-o", "deep/model", *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "deep/model"
    assert MotionGPT3.from_pretrained("deep/model").config.interface == "holders"
    assert main(["convert", "official", "good.ckpt", "-o", "deep/model", *options]) == 2
    assert main(["convert", "official", "good.ckpt", "-o", "new", *options[2:], "--tokenizer", "."]) == 2
    assert "holds no tokenizer" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_gpt2(tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """A torch file of transformers becomes a backbone of equal outputs, masks and all; damage is named."""
    monkeypatch.chdir(tmp_path)
    folder = tokenizer_folder
    settings = json.loads((folder / "config.json").read_text())
    torch.manual_seed(0)
    sizes = {name: settings[name] for name in ("n_embd", "n_layer", "n_head", "n_positions", "vocab_size")}
    theirs = GPT2LMHeadModel(GPT2Config(**sizes)).eval()
    state = {**theirs.state_dict(), "transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool)}
    torch.save(state, "pytorch_model.bin")
    assert main(["convert", "gpt2", "pytorch_model.bin", "-o", "gpt2", "--tokenizer", str(folder)]) == 0
    assert "missed   0 tensors" in capsys.readouterr().out
    backbone = load_backbone("gpt2", dtype=torch.float32)
    ids = torch.tensor(backbone.tokenize(["a person walks"]))
    whole = BimodalTransformer(backbone.stream, Stream(backbone.config.for_motion(8, 8)))
    hidden, _ = whole(Tokens.of(backbone.embed(ids)), None)
    ours = backbone.logits(hidden)[..., : backbone.vocabulary]
    torch.testing.assert_close(ours, theirs(ids).logits, atol=1e-4, rtol=1e-4)
    tokenizer, heads = read_tokenizer_folder(folder)
    for change, message in (
        ({"transformer.h.1.ln_1.bias": None}, r"h\.1\.ln_1\.bias is missing"),
        ({"transformer.h.1.ln_9.bias": torch.ones(2)}, r"unexpected tensor transformer\.h\.1\.ln_9\.bias"),
        ({"transformer.wpe.weight": state["transformer.wpe.weight"] * math.inf}, "not finite"),
        ({"transformer.ln_f.bias": torch.ones(2)}, "do not fit"),
        ({"lm_head.weight": state["lm_head.weight"] + 1}, "not the table of words"),
    ):
        changed = {name: value for name, value in {**state, **change}.items() if value is not None}
        with pytest.raises(MotionGPT3Error, match=message):
            convert_gpt2(changed, tokenizer, heads)
