"""Tiny data and runs for the training tests."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motiongpt3.data.clips import Clip, PackedClips
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.diffusion_head import HeadConfig
from motiongpt3.models.vae import MotionVAE, VAEConfig
from motiongpt3.motion.features import joints_to_features
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.serialization import write_folder
from motiongpt3.training.stage1 import Stage1Config
from motiongpt3.training.trainer import RunConfig, fit

SHORTS = ("walk forward", "jump", "wave left hand")
VAE = VAEConfig(
    latent_tokens=2, latent_channels=4, width=16, layers=3, heads=2, mlp_width=16, positions=16, max_frames=48
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Lightning's advice on workers and the like is not about these tests; one thread is quickest at this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine train and three val clips of people who sway."""

    def records() -> Iterator[Any]:
        for i in range(12):
            rng, frames = np.random.default_rng(i), 24 + 2 * i
            time = np.arange(frames)[:, None, None] / 6
            joints = np.cumsum(np.zeros((frames, 22, 3)), 0)
            for joint in range(1, 22):
                joints[:, joint] = joints[:, HUMANML3D.parents[joint]] + HUMANML3D.rest_offsets[joint]
            joints = joints + 0.05 * np.sin(time + rng.normal(size=(1, 22, 3))) + [0, 0, 0.02] * time * (i % 3)
            joints[..., 1] -= joints[..., 1].min()
            joints = joints.astype(np.float32)
            features = joints_to_features(torch.from_numpy(joints)).numpy()
            captions = (f"a person walks number {i}", "somebody turns left")
            split, short = "val" if i % 4 == 3 else "train", SHORTS[i % 3]
            yield (
                Clip(f"clip_{i}", split, 0, frames, captions, (True, False), "s", "MIT", short, short),
                features,
                joints,
            )

    return PackedClips.write(tmp_path_factory.mktemp("data") / "packed.safetensors", records()).path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunConfig]:
    """`run(name, **changes)`: a run of six steps, with a checkpoint after each, into its own folder."""

    def make(name: str = "run", **changes: Any) -> RunConfig:
        settings: dict[str, Any] = {"steps": 6, "learning_rate": 1e-2, "warmup": 2, "precision": "32-true", "ema": 0.5}
        settings |= {"accelerator": "cpu", "checkpoint_minutes": 0.0, "validate_every": 4, "log_every": 1}
        return RunConfig(tmp_path / name, **(settings | changes))

    return make


@pytest.fixture
def sizes() -> VAEConfig:
    """A tiny VAE."""
    return VAE


class Killed(BaseException):
    """Not an Exception, as a kill is none."""


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`killed(fit, module, step)`: train a module until it dies in the middle of that step."""

    def kill(fit: Callable, module: Any, step: int) -> None:
        kept = module.training_step

        def training_step(*arguments: Any) -> Any:
            if module.global_step == step:
                raise Killed
            return kept(*arguments)

        module.training_step = training_step
        with pytest.raises(Killed):
            fit(module, progress=False)
        del module.training_step

    return kill


@pytest.fixture
def survives_a_kill(killed: Callable[..., None]) -> Callable[[Callable[[str], Any]], None]:
    """`survives_a_kill(make)`: a killed run, resumed, ends as one left alone; `make(name)` makes the module."""

    def state(module: Any) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in module.state_dict().items()}

    def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
        return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    def check(make: Callable[[str], Any]) -> None:
        whole, first, second = make("whole"), make("killed"), make("killed")
        start = state(whole)
        assert equal(start, state(first))
        fit(whole, progress=False)
        killed(fit, first, 3)
        fit(second, resume=True, progress=False)
        assert equal(state(whole), state(second))
        assert not equal(state(whole), start)

    return check


@pytest.fixture(scope="session")
def vae_folder(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny VAE as `train vae` writes one."""
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(7)
    vae = MotionVAE(VAE)
    pack = PackedClips.open(packed)
    vae.feature_mean.copy_(torch.from_numpy(pack.mean))
    vae.feature_std.copy_(torch.from_numpy(pack.std))
    vae.latent_std.fill_(0.5)
    write_folder(folder, {"format": 1, "vae": asdict(VAE)}, vae.state_dict())
    return folder


@pytest.fixture
def stage1(packed: Path, vae_folder: Path, tiny_backbone: Path, run: Callable) -> Callable[..., Stage1Config]:
    """`stage1(name, **changes)`: a tiny run of stage 1; changes of the run, of the model or of the stage."""

    def make(name: str = "run", **changes: Any) -> Stage1Config:
        own = {"head", "motion_dropout", "shared_layers"}
        model = MotionGPT3Config(
            backbone=str(tiny_backbone),
            motion_width=16,
            motion_mlp=16,
            queries=2,
            **{"head": HeadConfig(width=16, depth=1, pool_mlp=16)} | {k: v for k, v in changes.items() if k in own},
        )
        of_stage = {k: v for k, v in changes.items() if k in {f.name for f in fields(Stage1Config)}}
        of_run = {k: v for k, v in changes.items() if k not in of_stage and k not in own}
        settings = {"batch": 4, "text_cache": "none", "model": model} | of_stage
        return Stage1Config(run(name, **of_run), [packed], vae_folder, **settings)

    return make
