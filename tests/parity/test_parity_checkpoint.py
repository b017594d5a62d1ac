"""Official checkpoints as files: the released one's full size, round trips, every task, and what is refused."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from motiongpt3.cli.main import main
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.guo import GuoEvaluator
from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.bimodal import BimodalTransformer, Stream, Tokens
from motiongpt3.models.chat import Reply
from motiongpt3.models.decoding import GenerationConfig
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.official.convert import convert_gpt2, convert_official, read_tokenizer_folder
from motiongpt3.official.model import OfficialMotionGPT3

Read = Callable[[str], Any]
Capture = pytest.CaptureFixture[str]
CONVERT = """
import resource, sys
from motiongpt3.cli.main import main

code = main(sys.argv[1:])
used = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
sys.stderr.write(f"\\npeak {max(used) * (1 if sys.platform == 'darwin' else 1024)}")
sys.exit(code)
"""


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if there is room, for files of gigabytes."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 6e9:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def random_checkpoint(keys: Path, file: Path) -> int:
    """Tensors of the listed names and shapes; returns how many words the text vocabulary has."""
    buffer = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)) * 0.02
    state: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for line in keys.read_text().splitlines():
        if line.startswith("#"):
            found = re.search(r"\{.*\}", line)
            tied |= json.loads(found[0]) if found else {}
        elif line.strip():
            name, shape, _ = line.split("\t")
            sizes = [int(size) for size in re.findall(r"\d+", shape)]
            count = math.prod(sizes)
            numbers = buffer.repeat(-(-count // len(buffer)))[:count].reshape(sizes).clone()
            state[name] = numbers + 1 if len(sizes) == 1 and name.endswith("weight") else numbers
    for name, same in tied.items():
        state[name] = state[same]
    torch.save({"epoch": 1, "state_dict": state}, file)
    return len(state["lm.language_model.transformer.wte.weight"]) - 2


def test_the_released_size(read: Read, roomy: Path) -> None:
    """Every key of the released checkpoint: it converts in three times its size, loads, generates and captions."""
    words = random_checkpoint(read("keys_full_model.txt"), roomy / "full.ckpt")
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (roomy / "tokenizer").mkdir()
    tokenizer.save(str(roomy / "tokenizer" / "tokenizer.json"))
    statistics = [str(read(f"humanml3d_{name}.npy")) for name in ("Mean", "Std")]
    command = ["convert", "official", "full.ckpt", "-o", "model", "--tokenizer", "tokenizer", "--json"]
    for prefix in ("", "evaluator-"):
        command += [f"--{prefix}mean", statistics[0], f"--{prefix}std", statistics[1]]
    environment = {**os.environ, "TMPDIR": str(roomy), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    made = subprocess.run([sys.executable, "-c", CONVERT, *command], cwd=roomy, env=environment, capture_output=True)
    assert made.returncode == 0, made.stderr
    peak = int(made.stderr.split()[-1])
    assert peak <= 3 * (roomy / "full.ckpt").stat().st_size
    (roomy / "full.ckpt").unlink()
    report = json.loads(made.stdout)
    assert report["missed"] == []
    assert GuoEvaluator.load(roomy / "model" / "evaluator").config.channels == 512

    model = MotionGPT3.from_pretrained(roomy / "model")
    assert isinstance(model, OfficialMotionGPT3)
    text = sum(p.numel() for p in model.backbone.parameters())
    assert (text, model.config.motion_width) == (124_439_808 + 2 * 768, 768)
    motion = model.generate("w5 w6 w7", seconds=2, steps=2)
    assert np.isfinite(motion.joints).all()
    standing = Motion(np.repeat(motion.joints[:1], 40, axis=0), 20)
    rows = model.rows("m2t", [""])
    written = model.write(rows, list(model.read_motions([standing])), GenerationConfig(max_tokens=3))
    assert len(written) == 1
    assert all(0 <= number < words for number in written[0])


@pytest.fixture(scope="module")
def standing() -> Motion:
    """Two seconds of somebody who glides forward."""
    pose = np.zeros((22, 3))
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[:, 1] -= pose[:, 1].min()
    return Motion(pose[None] + 0.01 * np.arange(40)[:, None, None] * np.array([0, 0, 1.0]), 20)


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


def test_a_checkpoint_without_guidance(checkpoint: dict[str, Tensor], read: Read) -> None:
    """Stages 2 and 3 of the official configurations train none."""
    tokenizer, heads = read_tokenizer_folder(read("mot-tiny"))
    bare = {name: tensor for name, tensor in checkpoint.items() if name != "lm.fake_latent"}
    made = convert_official(bare, torch.zeros(263), torch.ones(263), tokenizer, heads)
    assert made.config["guidance"] == 1.0
    assert made.config["head"]["condition_dropping"] == 0.0


def test_what_does_not_fit_is_named(checkpoint: dict[str, Tensor], read: Read) -> None:
    tokenizer, heads = read_tokenizer_folder(read("mot-tiny"))
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


def test_bad_files_leave_nothing(
    checkpoint: dict[str, Tensor], read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
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
    options = ["--tokenizer", str(read("mot-tiny")), "--mean", "mean.npy", "--std", "std.npy"]
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


def test_gpt2(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """A torch file of transformers becomes a backbone of equal outputs, masks and all; damage is named."""
    monkeypatch.chdir(tmp_path)
    folder = read("mot-tiny")
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
