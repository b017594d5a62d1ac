"""What the tests of commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import SHORT_RUN, TINY_VAE

from motiongpt3.cli.main import main
from motiongpt3.motion.motion import Motion


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def motions(here: Path) -> Path:
    """The working folder with `walk.npz` (1.5 s), `long.npz` (12 s), `short.npz` (half a second) and `notes.txt`."""
    pose = np.zeros((240, 22, 3), np.float32)
    pose[..., 1] = np.linspace(0, 1.7, 22)
    pose[..., 2] = 0.02 * np.arange(240)[:, None]
    for name, frames in (("walk", 30), ("long", 240), ("short", 10)):
        Motion(pose[:frames], 20).save(f"{name}.npz")
    Path("notes.txt").write_text("no motion")
    return here


@pytest.fixture
def refused(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refused(word, …)`: the one line of a refusal; exit code 2, and nothing new lies in the working folder."""

    def check(*words: str) -> str:
        before = sorted(here.rglob("*"))
        capsys.readouterr()
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("motiongpt3: ")
        assert err.count("\n") == 1
        assert sorted(here.rglob("*")) == before
        return err

    return check


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
