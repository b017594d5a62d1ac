"""`motiongpt3 train` end to end: to a model that generates, on from a checkpoint, interrupted, refused."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from tiny_runs import SHORT_RUN, TINY_HEAD, TINY_VAE

from motiongpt3 import Motion
from motiongpt3.cli.main import main
from motiongpt3.cli.train import FUNCTIONS

Capture = pytest.CaptureFixture[str]
Refused = Callable[..., str]


@pytest.mark.parametrize("stage", FUNCTIONS)
def test_every_training_has_a_function_and_a_configuration(stage: str) -> None:
    module, _, name = FUNCTIONS[stage].partition(":")
    function = getattr(import_module(f"motiongpt3.{module}"), name)
    assert get_type_hints(function)["config"].__name__.endswith("Config")


@pytest.mark.slow
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


@pytest.mark.slow
def test_train_goes_on(packed: Path, tiny_vae_dir: Path, here: Path, refused: Refused) -> None:
    words = ["train", "vae", "--run.out=run", f"--data=[{packed}]", *TINY_VAE, *SHORT_RUN]
    assert "nothing to resume" in refused(*words, "--resume")
    assert main([*words, "--start", str(tiny_vae_dir), "--run.checkpoint_minutes=0"]) == 0
    assert "holds a run already" in refused(*words)
    assert main([*words, "--resume", "--run.steps=3"]) == 0
    assert "give one of them" in refused(*words, "--resume", "--start", str(tiny_vae_dir))


def test_an_interrupted_training(packed: Path, here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from motiongpt3.training.autoencoder import VAETraining

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VAETraining, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert main(["train", "vae", "--run.out=run", f"--data=[{packed}]", *TINY_VAE, *SHORT_RUN]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_train_refuses(packed: Path, here: Path, refused: Refused) -> None:
    words = ["train", "vae", "--run.out=run", f"--data=[{packed}]", *TINY_VAE, *SHORT_RUN]
    assert "missing: --run.out, --data" in refused("train", "vae")
    assert "cannot read gone.yaml" in refused("train", "vae", "--config", "gone.yaml")
    assert "no packed file" in refused("train", "vae", "--run.out=run", "--data=[gone]")
    assert "--run.steps: needs a whole number, not many" in refused(*words, "--run.steps=many")
    assert "--model.norm: needs 'pre' or 'post'" in refused(*words, "--model.norm=mid")
    assert "--run.stepz" in refused(*words, "--run.stepz=3")
    assert "odd" in refused(*words, "--model.layers=4")
    assert "licences" in refused(*words, "--licenses=[none]")
    assert "batch must be 1 to" in refused(*words, "--batch=0")
    assert "clip must be" in refused(*words, "--run.clip=0")
    assert "--run.accelerator: needs 'auto' or 'cpu'" in refused(*words, "--run.accelerator=tpu")
    assert "width is '0'" in refused(*words, "--model.width=0")
    Path("bad.yaml").write_text("run: {out: run, speed: 3}\n")
    assert "speed" in refused("train", "vae", "--config", "bad.yaml")
    Path("worse.yaml").write_text("run: [\n")
    refused("train", "vae", "--config", "worse.yaml")


def _whole(checkpoint: Path) -> bool:
    return "state_dict" in torch.load(checkpoint, map_location="cpu", weights_only=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX signals and limits")
@pytest.mark.parametrize("trouble", ["SIGTERM", "full disk"])
def test_a_stopped_run_says_so_and_goes_on(
    packed: Path, here: Path, trouble: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    from motiongpt3.training.autoencoder import VAETraining

    words = ["train", "vae", "--run.out=run", f"--data=[{packed}]", *TINY_VAE, *SHORT_RUN]
    words += ["--run.checkpoint_minutes=0"]
    step, last = VAETraining.training_step, here / "run" / "checkpoints" / "last.ckpt"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def troubled(self: VAETraining, *args: Any) -> Any:
        if self.global_step == 1 and trouble == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.global_step == 1:  # no file may grow past what the first checkpoint has
            resource.setrlimit(resource.RLIMIT_FSIZE, (last.stat().st_size // 2, limits[1]))
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(VAETraining, "training_step", troubled)
        try:
            code = main(words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    err = capsys.readouterr().err
    assert code == (143 if trouble == "SIGTERM" else 2)
    assert ("stopped by SIGTERM" if trouble == "SIGTERM" else "the last checkpoint is whole") in err
    assert err.count("\n") == 1
    assert _whole(last)
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]
    assert main([*words, "--resume"]) == 0
