"""`motiongpt3 data prepare`, `check` and `augment` from their words to their files."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

from motiongpt3 import Motion
from motiongpt3.cli.data import augment
from motiongpt3.cli.main import main
from motiongpt3.data.augment import PoolSizes
from motiongpt3.data.clips import PackedClips

Capture = pytest.CaptureFixture[str]
Refused = Callable[..., str]


def test_data_prepare(tiny_data_dir: Path, here: Path, capsys: Capture, refused: Refused) -> None:
    assert main(["data", "prepare", str(tiny_data_dir), "all"]) == 0
    assert "all: 8 clips (4 train, 2 val, 2 test)" in capsys.readouterr().out
    assert Path("all/new_joint_vecs/A_0.npy").is_file()
    words = ["data", "prepare", str(tiny_data_dir), "free", "--no-layout", "--licenses", "CC0-1.0", "--json"]
    assert main(words) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["clips"], done["left_out"]) == ({"train": 2, "val": 1, "test": 1}, 4)
    assert [path.name for path in Path("free").iterdir()] == ["packed.safetensors"]
    assert "exists" in refused("data", "prepare", str(tiny_data_dir), "free")
    assert main(["data", "prepare", str(tiny_data_dir), "free", "--no-layout", "--overwrite"]) == 0
    assert len(PackedClips.open("free")) == 8
    Path("empty").mkdir()
    assert "holds no data set" in refused("data", "prepare", "empty", "out")
    assert "there is no folder" in refused("data", "prepare", "gone", "out")


def test_data_prepare_skips_bad_recordings(packed: Path, here: Path, capsys: Capture, refused: Refused) -> None:
    Path("bvh").mkdir()
    Path("bvh/bad.bvh").write_text("HIERARCHY")
    assert "no usable clip" in refused("data", "prepare", "bvh", "out")
    Motion(PackedClips.open(packed).clip_joints(0)).save("bvh/good.bvh")
    assert main(["data", "prepare", "bvh", "out"]) == 0
    out, err = capsys.readouterr()
    assert "1 clips (1 train" in out
    assert "skipped 1 bad clips" in out
    assert err.startswith("error: bad.bvh: ")


def test_data_check(packed: Path, here: Path, capsys: Capture, refused: Refused) -> None:
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
    assert "there is no folder gone" in refused("data", "check", "gone")


@pytest.mark.slow
def test_data_augment(packed: Path, here: Path, capsys: Capture, refused: Refused) -> None:
    words = ["--joined", "2", "--layered", "0", "--extended", "0", "--relaxed", "0", "--workers", "1"]
    assert main(["data", "augment", str(packed), "pool.safetensors", *words]) == 0
    assert "pool.safetensors: 2 examples" in capsys.readouterr().out
    assert len(PackedClips.open("pool.safetensors")) == 2
    assert "0 or more" in refused("data", "augment", str(packed), "x.safetensors", "--joined", "-1")
    assert "another" in refused("data", "augment", str(packed), "packed.safetensors")
    assert "no packed file" in refused("data", "augment", "gone", "x.safetensors")


def test_data_augment_has_the_defaults_of_the_library() -> None:
    parameters = inspect.signature(augment).parameters
    assert {field.name: parameters[field.name].default for field in fields(PoolSizes)} == asdict(PoolSizes())
