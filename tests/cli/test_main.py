"""Every command from its words to its files; a bad input is one line on stderr, exit code 2, and nothing on disk."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motiongpt3 import Motion
from motiongpt3.cli.main import COMMANDS, main
from motiongpt3.cli.main import main as cli
from motiongpt3.data.clips import PackedClips

Capture = pytest.CaptureFixture[str]
TINY_VAE = [
    "--model.latent_tokens=2",
    "--model.latent_channels=8",
    "--model.width=16",
    "--model.layers=3",
    "--model.heads=2",
    "--model.mlp_width=16",
    "--model.positions=32",
    "--model.max_frames=100",
]
TINY_HEAD = ["--model.head.width=16", "--model.head.depth=1", "--model.head.pool_mlp=16"]
SHORT_RUN = ["--run.steps=2", "--run.warmup=1", "--run.precision=32-true", "--run.accelerator=cpu", "--batch=2"]


@pytest.fixture(scope="session")
def packed(tiny_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared folder of `tiny_data_dir`."""
    out = tmp_path_factory.mktemp("prepared") / "data"
    assert main(["data", "prepare", str(tiny_data_dir), str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def tiny_vae_dir(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `train vae` writes after two steps."""
    out = tmp_path_factory.mktemp("runs") / "vae"
    assert main(["train", "vae", f"--run.out={out}", f"--data=[{packed}]", *TINY_VAE, *SHORT_RUN]) == 0
    return out / "vae"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refused(capsys: Capture, *words: str) -> str:
    """The one line of a refusal; nothing new lies in the working folder afterwards."""
    before = sorted(Path.cwd().rglob("*"))
    capsys.readouterr()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("motiongpt3: ")
    assert err.count("\n") == 1
    assert sorted(Path.cwd().rglob("*")) == before
    return err


# ------------------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: Capture) -> None:
    assert main([*name.split(), "--help"]) == 0
    assert f"usage: motiongpt3 {name}" in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert f"  {name} " in capsys.readouterr().out


def test_help_and_refusals_need_no_torch(tmp_path: Path) -> None:
    for words in (
        ["--help"],
        ["generate", "--help"],
        ["generate", "walk", "-o", "x.xyz"],
        ["generate", "", "-o", "x.bvh"],
    ):
        code = f"import sys; from motiongpt3.cli.main import main; main({words!r}); sys.exit('torch' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("motiongpt3")
    assert (
        subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout
        == "motiongpt3 0.1.0\n"
    )
    start = time.perf_counter()
    assert "examples:" in subprocess.run([command, "generate", "-h"], check=True, capture_output=True, text=True).stdout
    assert time.perf_counter() - start < 3
    wrong = subprocess.run([command, "dance"], check=False, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_unknown_commands(here: Path, capsys: Capture) -> None:
    known = "choose among: generate, predict, inbetween, compose, caption"
    assert f"no command 'dance'; {known}" in refused(capsys, "dance")
    assert "'train stage9'; choose among: train vae, train stage1" in refused(capsys, "train", "stage9")
    assert main([]) == 2
    assert main(["data"]) == 2
    assert "commands:" in capsys.readouterr().err


def test_a_missing_extra_is_named(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("motiongpt3.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    line = refused(capsys, "train", "vae")
    assert 'pip install "motiongpt3[train]"' in line


def test_interrupts_and_system_errors(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: BaseException) -> Callable[[Any], int]:
        def run(words: Any) -> int:
            raise error

        return run

    monkeypatch.setattr(cli, "_run", raising(KeyboardInterrupt()))
    assert main([]) == 130
    monkeypatch.setattr(cli, "_run", raising(OSError(28, "No space left on device", "out.bvh")))
    assert main([]) == 2
    assert capsys.readouterr().err == "motiongpt3: out.bvh: No space left on device\n"
    monkeypatch.setattr(cli, "_run", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):  # a bug of ours is not dressed up as the user's
        main([])


# ---------------------------------------------------------------------------------------------------------- generate


def test_generate_writes_every_format_asked_for(tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    words = ["a person walks", "--model", str(tiny_model_dir), "--seconds", "2.5", "--seed", "7", "--json"]
    assert main(["generate", *words, "-o", "out/a.bvh", "-o", "out/a.npz", "--out", "b.NPY"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert [entry["file"] for entry in written] == ["out/a.bvh", "out/a.npz", "b.NPY"]
    for entry in written:
        assert (entry["prompt"], entry["seed"], entry["frames"], entry["seconds"]) == ("a person walks", 7, 50, 2.5)
        assert len(Motion.load(entry["file"])) == 50
    assert Motion.load("out/a.npz").caption == "a person walks"


def test_generate_names_prompts_and_samples(tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    options = ["--model", str(tiny_model_dir), "--seconds", "1", "--guidance", "2", "--steps", "3"]
    assert main(["generate", "walks", "runs", "--samples", "2", "--seed", "5", *options, "-o", "clip.npz"]) == 0
    names = ["clip_000_00.npz", "clip_000_01.npz", "clip_001_00.npz", "clip_001_01.npz"]
    assert sorted(path.name for path in here.iterdir()) == names
    assert capsys.readouterr().out.splitlines()[0] == "clip_000_00.npz: 20 frames, 1.00 s"
    assert [Motion.load(name).caption for name in names] == ["walks", "walks", "runs", "runs"]
    assert main(["generate", "runs", "--seed", "6", *options, "-o", "alone.npz"]) == 0
    joints = Motion.load("clip_001_01.npz").joints  # sample k uses seed + k, whatever the batch
    assert np.abs(Motion.load("alone.npz").joints - joints).max() < 1e-4
    assert main(["generate", "runs", "--samples", "1", "walks", *options, "-o", "x.npz"]) == 2


def test_generate_without_seconds_and_in_another_script(tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    assert main(["generate", "человек идёт", "--model", str(tiny_model_dir), "-o", "x.npz"]) == 0
    assert 1 <= len(Motion.load("x.npz")) <= 100
    err = capsys.readouterr().err
    assert err.startswith("motiongpt3: warning: the model was trained on English")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["", "-o", "x.bvh"], "the prompt is empty"),
        (["   \t", "-o", "x.bvh"], "the prompt is empty"),
        (["a" * 100_000, "-o", "x.bvh"], "the prompt has 100000 characters; at most 1000"),
        (["walk", "", "-o", "x.bvh"], "the prompt is empty"),
        (["wa\udcfflk", "-o", "x.bvh"], "not valid UTF-8"),
        (["walk"], "missing: -o"),
        (["-o", "x.bvh"], "missing: PROMPT"),
        (["walk", "-o", "x.fbx"], "cannot write .fbx: x.fbx; writable are .npz, .smpl.npz, .npy, .bvh"),
        (["walk", "-o", "x.amc"], "cannot write .amc"),
        (["walk", "-o", "x.bvh", "-o", "x"], "a file without suffix"),
        (["walk", "-o", "no/such/x.bvh"], "cannot write to the folder no/such"),
        (["walk", "-o", "/proc/nothing/x.bvh"], "cannot write to the folder /proc/nothing"),
        (["walk", "-o", "/proc/x.bvh"], "cannot write to the folder /proc"),
        (["walk", "-o", "new/x.bvh", "-o", "new/x.bvh"], "given twice"),
        (["walk", "-o", "new/x.bvh", "-o", "no/such/x.bvh"], "cannot write to the folder no/such"),
        (["walk", "-o", f"{'x' * 250}.bvh"], "too long"),
        (["walk", "-o", "x.bvh", "--seconds", "0"], "--seconds: needs a number above 0, not 0"),
        (["walk", "-o", "x.bvh", "--seconds=-2"], "--seconds: needs a number above 0, not -2"),
        (["walk", "-o", "x.bvh", "--seconds", "nan"], "--seconds: needs a number above 0, not nan"),
        (["walk", "-o", "x.bvh", "--seconds", "four"], "--seconds: needs a number above 0, not 'four'"),
        (["walk", "-o", "x.bvh", "--samples", "0"], "--samples: needs a whole number above 0, not 0"),
        (["walk", "-o", "x.bvh", "--seed", "1.5"], "--seed: needs a whole number, 0 or more, not '1.5'"),
        (["walk", "-o", "x.bvh", "--seed", "-1"], "--seed: needs a whole number, 0 or more, not -1"),
        (["walk", "-o", "x.bvh", "--device", "tpu"], "--device: needs 'cpu' or 'cuda', not tpu"),
        (["walk", "-o", "x.bvh", "--sede", "3"], "unrecognized arguments: --sede 3"),
        (["walk", "-o"], "expected one argument"),
    ],
)
def test_generate_refuses_before_it_loads_a_model(words: list[str], reason: str, here: Path, capsys: Capture) -> None:
    assert reason in refused(capsys, "generate", *words, "--model", "no model is looked for")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--seconds", "5.05"], "at most 5"),
        (["jump for 80 seconds"], "in the prompt 'jump for 80 seconds.' must be more than 0 and at most 5, not 80"),
        (["jump with 0 frames"], "at most 5, not 0"),
        (["--seconds", "1e300"], "at most 5"),
        (["--seconds", "inf"], "at most 5"),
        (["--guidance", "1e9"], "guidance must be 0 to 100"),
        (["--steps", "5000"], "steps must be 1 to 1000"),
        (["--samples", "999999999999"], "samples must be 1 to 10000"),
        (["--seed", "99999999999999999999999"], "seed must be"),
    ],
)
def test_generate_refuses_what_the_model_cannot(
    words: list[str], reason: str, tiny_model_dir: Path, here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the model's configuration alone: nothing heavy is loaded, or downloaded, to say no."""
    monkeypatch.setattr("motiongpt3.models.motiongpt3.load_backbone", None)
    assert reason in refused(capsys, "generate", "walk", *words, "--model", str(tiny_model_dir), "-o", "new/x.bvh")


def damage_nothing(model: Path) -> None:
    shutil.rmtree(model)


def damage_config(model: Path) -> None:
    (model / "config.json").write_text("{")


def damage_list(model: Path) -> None:
    (model / "config.json").write_text("[1]")


def damage_sizes(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["vae"]["width"] = 18
    (model / "config.json").write_text(json.dumps(config))


def damage_weights(model: Path) -> None:
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[: len(content) // 2])


def damage_hash(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["backbone_identity"]["sha256"] = "0" * 64
    config["includes_backbone"] = False
    (model / "config.json").write_text(json.dumps(config))


def damage_backbone(model: Path) -> None:
    (model / "backbone.json").write_text('{"model_type": "bert"}')


@pytest.mark.parametrize(
    "damage",
    [damage_nothing, damage_config, damage_list, damage_sizes, damage_weights, damage_hash, damage_backbone],
)
def test_a_damaged_model_is_one_line(
    damage: Callable[[Path], None], tiny_model_dir: Path, tmp_path: Path, here: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    damage(model)
    refused(capsys, "generate", "walk", "--model", str(model), "-o", "x.bvh")
    refused(capsys, "evaluate", "prompts", "--model", str(model), "--json", "x.json")
    if damage not in (damage_hash, damage_sizes, damage_backbone):  # these can only be seen with the weights
        refused(capsys, "info", str(model))


def test_cuda_without_a_gpu(here: Path, tiny_model_dir: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["generate", "walk", "-o", "x.bvh", "--model", str(tiny_model_dir), "--device", "cuda"]
    assert "no CUDA device" in refused(capsys, *words)


# -------------------------------------------------------------------------------------------------------------- info


def test_info_of_a_motion(here: Path, capsys: Capture) -> None:
    joints = np.zeros((40, 22, 3), np.float32)
    joints[..., 1] = np.linspace(0, 1.7, 22)
    joints[..., 2] += np.linspace(0, 2, 40)[:, None]
    Motion(joints, caption="a person glides").save("a.npz")
    assert main(["info", "a.npz", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["frames"], facts["fps"], facts["seconds"], facts["caption"]) == (40, 20.0, 2.0, "a person glides")
    assert (facts["path_m"], facts["displacement_m"]) == (2.0, 2.0)
    assert facts["box_max_m"] == [0.0, 1.7, 2.0]
    assert facts["quality"]["max_speed (m/s)"] == pytest.approx(2 / 39 * 20, abs=1e-3)
    assert main(["info", "a.npz"]) == 0
    assert "a person glides" in capsys.readouterr().out


def test_info_of_a_model(tiny_model_dir: Path, tiny_backbone: Path, tmp_path: Path, capsys: Capture) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    (model / "README.md").write_text("---\nlicense: cc-by-nc-4.0\ndatasets: [some mocap]\n---\n# A model\n")
    assert main(["info", str(model), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["license"], facts["training_data"]) == ("cc-by-nc-4.0", ["some mocap"])
    assert facts["backbone"]["name"] == str(tiny_backbone)
    assert len(facts["backbone"]["sha256"]) == 64
    assert (facts["config"]["motion_width"], facts["max_seconds"]) == (16, 5.0)
    assert set(facts["parameters"]) == {
        "text stream", "motion stream", "queries", "length head", "diffusion head", "motion VAE"
    }  # fmt: skip
    assert main(["info", str(model)]) == 0
    assert "cc-by-nc-4.0" in capsys.readouterr().out


def test_info_of_bad_files(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    joints = np.zeros((40, 22, 3), np.float32)
    Motion(joints).save("good.npz")
    content = Path("good.npz").read_bytes()
    Path("cut.npz").write_bytes(content[: len(content) // 2])
    np.savez("nan.npz", joints=np.full((40, 22, 3), np.nan, np.float32))
    np.save("objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    Path("cycle.bvh").write_text("HIERARCHY\nROOT a\n{\n")
    Path("alone.amc").write_text(":FULLY-SPECIFIED\n1\nroot 0 0 0 0 0 0\n")
    Path("empty.bvh").touch()
    Path("folder").mkdir()
    for name in (
        "cut.npz",
        "nan.npz",
        "objects.npy",
        "cycle.bvh",
        "alone.amc",
        "empty.bvh",
        "gone.bvh",
        "a.xyz",
        "folder",
    ):
        assert name.partition(".")[0] in refused(capsys, "info", name)
    refused(capsys, "info", "nobody/nothing")


# -------------------------------------------------------------------------------------------------------------- data


def test_data_prepare(tiny_data_dir: Path, here: Path, capsys: Capture) -> None:
    assert main(["data", "prepare", str(tiny_data_dir), "all"]) == 0
    assert "all: 8 clips (4 train, 2 val, 2 test)" in capsys.readouterr().out
    assert Path("all/new_joint_vecs/A_0.npy").is_file()
    words = ["data", "prepare", str(tiny_data_dir), "free", "--no-layout", "--licenses", "CC0-1.0", "--json"]
    assert main(words) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["clips"], done["left_out"]) == ({"train": 2, "val": 1, "test": 1}, 4)
    assert [path.name for path in Path("free").iterdir()] == ["packed.safetensors"]
    assert "exists" in refused(capsys, "data", "prepare", str(tiny_data_dir), "free")
    assert main(["data", "prepare", str(tiny_data_dir), "free", "--no-layout", "--overwrite"]) == 0
    assert len(PackedClips.open("free")) == 8
    Path("empty").mkdir()
    assert "holds no data set" in refused(capsys, "data", "prepare", "empty", "out")
    assert "there is no folder" in refused(capsys, "data", "prepare", "gone", "out")


def test_data_prepare_skips_bad_recordings(packed: Path, here: Path, capsys: Capture) -> None:
    Path("bvh").mkdir()
    Path("bvh/bad.bvh").write_text("HIERARCHY")
    assert "no usable clip" in refused(capsys, "data", "prepare", "bvh", "out")
    Motion(PackedClips.open(packed).clip_joints(0)).save("bvh/good.bvh")
    assert main(["data", "prepare", "bvh", "out"]) == 0
    out, err = capsys.readouterr()
    assert "1 clips (1 train" in out
    assert "skipped 1 bad clips" in out
    assert err.startswith("error: bad.bvh: ")


def test_data_check(packed: Path, here: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert main(["data", "check", str(packed)]) == 0
    assert "0 errors" in capsys.readouterr().out
    shutil.copytree(packed, "broken")
    np.save("broken/Mean.npy", np.full(263, np.nan, np.float32))
    Path("broken/test.txt").unlink()
    assert main(["data", "check", "broken"]) == 1
    out = capsys.readouterr().out
    assert "error: test.txt: is missing" in out
    assert main(["data", "check", "broken", "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)
    assert {"file": "test.txt", "reason": "is missing", "severity": "error"} in problems
    assert "there is no folder gone" in refused(capsys, "data", "check", "gone")


def test_data_augment(packed: Path, here: Path, capsys: Capture) -> None:
    words = ["--joined", "2", "--layered", "0", "--extended", "0", "--relaxed", "0", "--workers", "1"]
    assert main(["data", "augment", str(packed), "pool.safetensors", *words]) == 0
    assert "pool.safetensors: 2 examples" in capsys.readouterr().out
    assert len(PackedClips.open("pool.safetensors")) == 2
    assert "0 or more" in refused(capsys, "data", "augment", str(packed), "x.safetensors", "--joined", "-1")
    assert "another" in refused(capsys, "data", "augment", str(packed), "packed.safetensors")
    assert "no packed file" in refused(capsys, "data", "augment", "gone", "x.safetensors")


# ------------------------------------------------------------------------------------------------------------- train


def test_train_then_generate(
    packed: Path, tiny_vae_dir: Path, tiny_backbone: Path, here: Path, capsys: Capture
) -> None:
    config = {"run": {"out": "run", "warmup": 1}, "data": [str(packed)], "vae": str(tiny_vae_dir), "text_cache": "none"}
    Path("config.yaml").write_text(json.dumps(config))
    words = ["train", "stage1", "--config", "config.yaml", f"--model.backbone={tiny_backbone}", *TINY_HEAD, *SHORT_RUN]
    sizes = ["--model.motion_width=16", "--model.motion_mlp=16", "--model.steps=2"]
    assert main([*words, *sizes]) == 0
    assert capsys.readouterr().out == "run/model\n"
    assert main(["generate", "a person walks", "--model", "run/model", "--seconds", "1", "-o", "x.bvh"]) == 0
    assert len(Motion.load("x.bvh")) == 20


def test_train_goes_on(packed: Path, tiny_vae_dir: Path, here: Path, capsys: Capture) -> None:
    words = ["train", "vae", "--run.out=run", f"--data=[{packed}]", *TINY_VAE, *SHORT_RUN]
    assert "nothing to resume" in refused(capsys, *words, "--resume")
    assert main([*words, "--start", str(tiny_vae_dir), "--run.checkpoint_minutes=0"]) == 0
    assert "holds a run already" in refused(capsys, *words)
    assert main([*words, "--resume", "--run.steps=3"]) == 0
    assert "give one of them" in refused(capsys, *words, "--resume", "--start", str(tiny_vae_dir))


def test_an_interrupted_training(packed: Path, here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from motiongpt3.training.vae import VAETraining

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VAETraining, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert main(["train", "vae", "--run.out=run", f"--data=[{packed}]", *TINY_VAE, *SHORT_RUN]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr() == ("", "")


def test_train_refuses(packed: Path, here: Path, capsys: Capture) -> None:
    words = ["train", "vae", "--run.out=run", f"--data=[{packed}]", *TINY_VAE, *SHORT_RUN]
    assert "missing: --run.out, --data" in refused(capsys, "train", "vae")
    assert "File does not exist" in refused(capsys, "train", "vae", "--config", "gone.yaml")
    assert "no packed file" in refused(capsys, "train", "vae", "--run.out=run", "--data=[gone]")
    assert "--run.steps: needs a whole number, not many" in refused(capsys, *words, "--run.steps=many")
    assert "--model.norm: needs 'pre' or 'post'" in refused(capsys, *words, "--model.norm=mid")
    assert "--run.stepz" in refused(capsys, *words, "--run.stepz=3")
    assert "odd" in refused(capsys, *words, "--model.layers=4")
    assert "licences" in refused(capsys, *words, "--licenses=[none]")
    assert "batch must be 1 to" in refused(capsys, *words, "--batch=0")
    assert "clip must be" in refused(capsys, *words, "--run.clip=0")
    assert "--run.accelerator: needs 'auto' or 'cpu'" in refused(capsys, *words, "--run.accelerator=tpu")
    assert "width is '0'" in refused(capsys, *words, "--model.width=0")
    Path("bad.yaml").write_text("run: {out: run, speed: 3}\n")
    assert "speed" in refused(capsys, "train", "vae", "--config", "bad.yaml")
    Path("worse.yaml").write_text("run: [\n")
    refused(capsys, "train", "vae", "--config", "worse.yaml")


# ---------------------------------------------------------------------------------------------------------- evaluate


def test_evaluate_prompts(tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    assert main(["evaluate", "prompts", "--model", str(tiny_model_dir), "--seeds", "1", "--json", "new/x.json"]) == 0
    out = capsys.readouterr().out
    report = json.loads(Path("new/x.json").read_text())
    assert 0 <= report["plain"]["score"] <= 1
    assert f"{report['plain']['score']:.1%} right" in out
    files = [(tiny_model_dir / name).read_bytes() for name in ("config.json", "model.safetensors")]
    assert report["made_with"]["model"]["sha256"] == sha256(b"".join(files)).hexdigest()
    assert report["made_with"]["versions"]["motiongpt3"]
    assert "no/such" in refused(capsys, "evaluate", "prompts", "--json", "no/such/x.json")
    assert "--seeds" in refused(capsys, "evaluate", "prompts", "--seeds", "0")


def test_evaluate_captions(
    packed: Path, tiny_model_dir: Path, here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from motiongpt3.models.motiongpt3 import MotionGPT3

    seen: list[int] = []

    def caption(model: MotionGPT3, motions: list[Motion]) -> list[str]:
        seen.extend(len(motion) for motion in motions)
        return ["a person walks backward.", "a person jumps."][: len(motions)]

    monkeypatch.setattr(MotionGPT3, "caption", caption, raising=False)
    capsys.readouterr()
    words = ["evaluate", "captions", "--data", str(packed), "--model", str(tiny_model_dir)]
    assert main([*words, "--json", "new/x.json"]) == 0
    out = capsys.readouterr().out
    assert seen == [70, 75]
    assert "action word right: 50.0% of 2 captions" in out
    report = json.loads(Path("new/x.json").read_text())
    assert (report["clips"], report["distinct"], report["forward_backward"]) == (2, 2, 0.0)
    assert [entry["caption"] for entry in report["captions"]] == ["a person walks backward.", "a person jumps."]
    assert main([*words, "--clips", "1"]) == 0
    assert "1 clips" in capsys.readouterr().out
    assert "two actions" in refused(capsys, *words, "--judge")
    assert "missing: --data" in refused(capsys, "evaluate", "captions")


def test_evaluate_vae(packed: Path, tiny_vae_dir: Path, tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    capsys.readouterr()
    words = ["evaluate", "vae", "--data", str(packed)]
    assert main([*words, "--vae", str(tiny_vae_dir)]) == 0
    assert "studio A" in capsys.readouterr().out
    assert main([*words, "--vae", str(tiny_model_dir), "--split", "test", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sources = found["sources"]
    assert found["made_with"]["split"] | {"sha256": ""} == {"name": "test", "clips": 2, "frames": 145, "sha256": ""}
    assert {name: numbers["clips"] for name, numbers in sources.items()} == {"studio A": 1, "studio B": 1, "all": 2}
    mean = np.mean([sources[name]["global_mm"] for name in ("studio A", "studio B")])
    assert sources["all"]["global_mm"] == pytest.approx(mean)
    assert "no model folder" in refused(capsys, *words, "--vae", str(packed))
    assert "missing: --data" in refused(capsys, "evaluate", "vae")


def test_evaluate_quality(packed: Path, tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    capsys.readouterr()
    words = ["evaluate", "quality", "--data", str(packed), "--model", str(tiny_model_dir)]
    assert main([*words, "--clips", "9", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["clips"] == 2
    assert numbers["real"]["max_speed"] < numbers["generated"]["max_speed"]
    assert main([*words, "--clips", "1"]) == 0
    assert "skate_speed (cm/s)" in capsys.readouterr().out


def test_an_interrupt_leaves_nothing(tiny_model_dir: Path, here: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "motiongpt3.cli.main",
        "generate",
        "walk",
        "--samples",
        "5000",
        "--model",
        str(tiny_model_dir),
    ]
    process = subprocess.Popen(
        [*command, "--steps", "1000", "-o", "new/x.bvh"],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    for _ in range(600):
        time.sleep(0.05)
        if (here / "new").is_dir():
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    # CPython ends itself with the signal where it came inside an exec, such as a dataclass made by an import.
    assert process.returncode in (130, -signal.SIGINT), err
    assert err == b""
    assert list(here.iterdir()) == []
