"""Model folders: bitwise round trips, and one clear line for every kind of damage."""

from __future__ import annotations

import json
import os
import pickle
import stat
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.vae import VAEConfig, load_vae
from motiongpt3.serialization import (
    CONFIG,
    WEIGHTS,
    atomic_folder,
    atomic_path,
    load_weights,
    parse_config,
    read_config,
    write_folder,
)


def module(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return made.eval()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def expect(message: str, action: Any) -> None:
    with pytest.raises(MotionGPT3Error, match=message) as caught:
        action()
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_round_trip_is_bitwise(tmp_path: Path) -> None:
    config = {"a": [1, 2.5], "name": "ü"}
    write_folder(tmp_path / "new" / "model", config, module().state_dict())
    folder = tmp_path / "new" / "model"
    assert sorted(os.listdir(folder)) == sorted([CONFIG, WEIGHTS])
    assert read_config(folder) == config
    other = module(1)
    load_weights(other, folder)
    assert same(other, module())


def test_weights_can_be_stored_in_half(tmp_path: Path) -> None:
    write_folder(tmp_path, {}, module().state_dict(), torch.bfloat16)
    other = module(1)
    load_weights(other, tmp_path)
    assert other[0].weight.dtype == torch.float32
    assert torch.equal(other[0].weight, module()[0].weight.bfloat16().float())
    assert other.state_dict()["1.num_batches_tracked"].dtype == torch.int64


def test_views_are_stored_as_they_are(tmp_path: Path) -> None:
    table = torch.arange(24.0).reshape(4, 6)
    write_folder(tmp_path, {}, {"weight": table.t()[:3].t(), "bias": table[0, :4][::2]})
    other = nn.Linear(3, 4)
    other.bias = nn.Parameter(torch.empty(2))
    load_weights(other, tmp_path)
    assert torch.equal(other.weight, table[:, :3])
    assert other.bias.tolist() == [0, 2]


def test_prefix_and_absent_names(tmp_path: Path) -> None:
    state = {f"vae.{name}": value for name, value in module().state_dict().items()} | {"other": torch.ones(1)}
    write_folder(tmp_path, {}, state)
    other = module(1)
    load_weights(other, tmp_path, prefix="vae.")
    assert same(other, module())
    del state["vae.0.weight"]
    write_folder(tmp_path, {}, state)
    other = module(1)
    load_weights(other, tmp_path, prefix="vae.", absent=("0.",))
    assert torch.equal(other[0].weight, module(1)[0].weight)
    assert torch.equal(other[2].weight, module()[2].weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"2.bias": None}, "2.bias is missing"),
        ({"extra": torch.ones(1)}, "unexpected tensor extra"),
        ({"2.bias": torch.ones(3)}, r"2.bias has shape \(3,\) instead of \(2,\)"),
        ({"2.bias": torch.tensor([1.0, float("nan")])}, "2.bias holds values that are not finite"),
        ({"2.bias": torch.tensor([1.0, float("-inf")])}, "2.bias holds values that are not finite"),
        ({"2.bias": torch.full((2,), 1e300, dtype=torch.float64)}, "2.bias holds values that are not finite"),
        ({"2.bias": torch.ones(2, dtype=torch.complex64)}, "2.bias holds torch.complex64"),
        ({"2.bias": torch.ones(2, dtype=torch.bool)}, "2.bias holds torch.bool"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    state = {name: value for name, value in (module().state_dict() | change).items() if value is not None}
    save_file(state, tmp_path / WEIGHTS)
    other = module(1)
    expect(message, lambda: load_weights(other, tmp_path))
    assert same(other, module(1))


class Bomb:
    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["BOMB"],))


@pytest.mark.parametrize("damage", ["truncated", "header", "empty", "text", "pickle", "torch", "folder", "gone"])
def test_damaged_files(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, {}, module().state_dict())
    path = tmp_path / WEIGHTS
    data = path.read_bytes()
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    if damage == "truncated":
        path.write_bytes(data[:-5])
    elif damage == "header":
        path.write_bytes((2**60).to_bytes(8, "little") + data[8:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("hello " * 100)
    elif damage == "pickle":
        path.write_bytes(pickle.dumps({"0.weight": Bomb()}))
    elif damage == "torch":
        torch.save({"0.weight": Bomb()}, path)
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    expect("damaged" if damage != "gone" else "has no model.safetensors", lambda: load_weights(module(), tmp_path))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[1]", b"\xff\xfe", b'"a"', b"[" * 100_000, b"1" * 10_000, b'{"a": ' + b" " * 20_000_000 + b"1}"],
)
def test_damaged_configurations(tmp_path: Path, text: bytes) -> None:
    (tmp_path / CONFIG).write_bytes(text)
    expect("damaged", lambda: read_config(tmp_path))


def test_no_configuration(tmp_path: Path) -> None:
    expect("no model folder", lambda: read_config(tmp_path))
    expect("no model folder", lambda: read_config(tmp_path / "nowhere"))
    (tmp_path / CONFIG).mkdir()
    expect("damaged", lambda: read_config(tmp_path))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    expect("cannot write", lambda: write_folder(tmp_path / "file", {}, {}))
    expect("cannot write", lambda: write_folder(tmp_path / "file" / "model", {}, {}))
    assert (tmp_path / "file").read_text() == "here first"


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    write_folder(tmp_path, {"version": 1}, module().state_dict())
    with pytest.raises(TypeError):
        write_folder(tmp_path, {"version": object()}, module().state_dict())
    assert read_config(tmp_path) == json.loads('{"version": 1}')
    assert sorted(os.listdir(tmp_path)) == sorted([CONFIG, WEIGHTS])


def test_the_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "clip.tar.npz"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"
        temporary.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert os.listdir(tmp_path) == ["clip.tar.npz"]
    with atomic_path(str(target)) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "half"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MotionGPT3Error, SystemExit])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "clip.npz"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error("no")

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["clip.npz"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "clip.npz"):
            raise OSError(28, "No space left on device")

    with pytest.raises(MotionGPT3Error, match=r"cannot write .*clip.npz: No space left on device") as caught:
        write()
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["missing/clip.npz", "file/clip.npz", "folder", "x" * 300 + ".npz"])
def test_a_place_that_cannot_be_written_files(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    def write() -> None:
        with atomic_path(tmp_path / place) as temporary:
            temporary.write_text("new")

    with pytest.raises(MotionGPT3Error, match="cannot write"):
        write()
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "clip.npz") as temporary:
            temporary.write_text("new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "clip.npz").stat().st_mode) == 0o640


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "new"
    with atomic_folder(target) as folder:
        (folder / "name").write_text("new")
        assert not target.exists()
    assert (target / "name").read_text() == "new"

    def interrupted() -> None:
        with atomic_folder(target) as folder:
            (folder / "name").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (target / "name").read_text() == "new"
    with atomic_folder(target):
        pass
    assert os.listdir(target.parent) == ["new"]
    assert os.listdir(target) == []


def test_a_failed_replacement_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "name").write_text("old")
    rename = Path.rename

    def failing(source: Path, target: Path) -> Path:
        if source.name == "made":
            raise OSError("no")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(MotionGPT3Error, match=r"cannot write .*: no"), atomic_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "name").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def _gone() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


@pytest.mark.skipif(os.name != "posix", reason="processes are asked for by POSIX signals")
def test_leftovers_of_killed_processes_are_cleared_and_living_ones_respected(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "walk.npz") as temporary:
        temporary.write_text("x")
        mine = f"-{os.getpid()}-"
        dead = tmp_path / temporary.name.replace(mine, f"-{_gone()}-")
        alive = tmp_path / temporary.name.replace(mine, f"-{os.getppid()}-")
    dead.write_text("half")
    alive.write_text("half")
    with atomic_path(tmp_path / "walk.npz") as temporary:
        temporary.write_text("y")
    assert not dead.exists()
    assert alive.exists()
    with atomic_folder(tmp_path / "set") as folder:
        common = folder.parent.name
    dead, alive = (tmp_path / common.replace(mine, f"-{number}-") for number in (_gone(), os.getppid()))
    dead.mkdir()
    (dead / "half").write_text("x")
    with atomic_folder(tmp_path / "set"):
        pass
    assert not dead.exists()
    alive.mkdir()
    refusal = rf"set is being written by another process \({os.getppid()}\)"
    with pytest.raises(MotionGPT3Error, match=refusal), atomic_folder(tmp_path / "set"):
        pass


def test_sizes_that_the_weights_do_not_have_take_no_memory(tmp_path: Path) -> None:
    small = VAEConfig(latent_tokens=2, latent_channels=8, width=16, layers=3, heads=2, mlp_width=16)
    config = {"vae": asdict(replace(small, width=100_000, heads=1))}  # 4 TB
    write_folder(tmp_path, config, {"feature_mean": torch.zeros(263)})
    expect("does not fit this model", lambda: load_vae(tmp_path))
    expect("dropout is '5.0'", lambda: parse_config(VAEConfig, asdict(small) | {"dropout": 5.0}))
