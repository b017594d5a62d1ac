"""Torch files of strangers: tensors come out bit by bit, code never runs, damage is one line."""

from __future__ import annotations

import os
import pickle
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.official import torch_files
from motiongpt3.official.torch_files import TorchFile, open_torch_file
from motiongpt3.official.torch_files_worker import Refused, main


class Bomb:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["BOMB"],))


@pytest.fixture(autouse=True)
def bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whatever a test does, no bomb goes off, and no temporary file stays."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    assert not (tmp_path / "exploded").exists()
    assert not list(scratch.iterdir())


def read(path: Path) -> TorchFile:
    with open_torch_file(path) as file:
        return TorchFile({name: tensor.clone() for name, tensor in file.tensors.items()}, file.left_out)


def refusal(path: Path) -> str:
    """Why the file is refused, by the process that guards us."""
    with pytest.raises(MotionGPT3Error) as caught, open_torch_file(path):
        pass
    assert caught.value.__cause__ is None
    return one_line(str(caught.value))


def inner_refusal(path: Path) -> str:
    """The same, but asked in this process, which takes less time."""
    target = path.with_suffix(".out")
    with pytest.raises(Refused) as caught:
        main(str(path), str(target))
    assert not target.exists()
    return one_line(str(caught.value))


def one_line(message: str) -> str:
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("zipped", [True, False])
def test_a_lightning_checkpoint(tmp_path: Path, zipped: bool) -> None:
    base = torch.randn(6, 4)
    state = OrderedDict(
        plain=base,
        tied=base,
        transposed=base.t(),
        row=base[2],
        half=base.half(),
        brain=base.bfloat16(),
        parameter=torch.nn.Parameter(base * 2),
        count=torch.tensor(7),
        empty=torch.zeros(0, 3),
        broken=torch.tensor([float("nan")]),
    )
    content = {"epoch": 3, "state_dict": state, "optimizer_states": [{"x": torch.ones(3)}], "loops": None}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "a.ckpt")
    assert set(found.tensors) == set(state)
    assert found.left_out == ["epoch", "optimizer_states", "loops"]
    for name, tensor in state.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name].nan_to_num(5), tensor.detach().nan_to_num(5)), name


def test_dictionaries_in_a_dictionary(tmp_path: Path) -> None:
    content = {"a": {"x": torch.ones(2), "deep": {"y": torch.zeros(1), "deeper": {"z": torch.ones(1)}}}, "iter": 5}
    torch.save(content, tmp_path / "a.tar", _use_new_zipfile_serialization=False)
    found = read(tmp_path / "a.tar")
    assert set(found.tensors) == {"a.x", "a.deep.y"}
    assert found.left_out == ["a.deep.deeper", "iter"]


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def rezipped(source: Path, target: Path, method: int = zipfile.ZIP_STORED, change: Any = None) -> Path:
    """The archive again: compressed, or with the bytes of entries changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, change(entry.filename, data) if change else data)
    return target


def test_pickle_bombs(tmp_path: Path) -> None:
    content = {"state_dict": {"x": torch.ones(2)}, "hyper_parameters": Bomb()}
    path = saved(tmp_path / "a.ckpt", content, _use_new_zipfile_serialization=False)
    assert "could run code" in inner_refusal(path)
    path = saved(tmp_path / "b.ckpt", content)
    assert "could run code" in (message := refusal(path))
    assert "posix.mkdir" in message or "nt.mkdir" in message
    assert "weights_only" not in message


def foreign(monkeypatch: pytest.MonkeyPatch, name: str, *bases: type) -> Any:
    """A class of a package that need not be there."""
    module, _, last = name.rpartition(".")
    for parent in [module.rsplit(".", cut)[0] for cut in range(module.count(".") + 1)]:
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    made = type(last, bases, {"__module__": module, "__qualname__": last})
    monkeypatch.setattr(sys.modules[module], last, made, raising=False)
    return made


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_of_lightning_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    """Objects of classes that are not installed, beside the weights; of any other class they are refused."""
    settings = foreign(monkeypatch, "omegaconf.dictconfig.DictConfig")()
    settings.__dict__ |= {"lr": 1e-4, "kind": int, "any": Any, "by": defaultdict(list, a=[1]), "_parent": None}
    state = {"x": torch.randn(3, 2)}
    parameters = foreign(monkeypatch, "lightning_fabric.utilities.data.AttributeDict", dict)(cfg=settings)
    content = {"state_dict": state, "hyper_parameters": parameters, "epoch": 2}
    path = saved(tmp_path / "a.ckpt", content, _use_new_zipfile_serialization=zipped)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "omegaconf.dictconfig")
        found = read(path)
    assert torch.equal(found.tensors["x"], state["x"])
    assert found.left_out == ["hyper_parameters", "epoch"]
    settings.bomb = Bomb()
    assert "could run code" in inner_refusal(saved(tmp_path / "b.ckpt", content, _use_new_zipfile_serialization=zipped))
    content["hyper_parameters"] = foreign(monkeypatch, "omegaconf.resolvers.Other")()
    assert "resolvers.Other" in inner_refusal(saved(path, content, _use_new_zipfile_serialization=zipped))


def test_a_bare_pickle_and_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    for data in (pickle.dumps(Bomb()), b"", b"P", b"hello " * 99, b"\x00" * 4096):
        path.write_bytes(data)
        assert "no file of torch.save" in refusal(path)
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "../../escaped")
    assert "no file of torch.save" in refusal(path)
    assert not (tmp_path.parent.parent / "escaped").exists()
    assert "cannot read" in refusal(tmp_path / "gone")
    assert "cannot read" in refusal(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_cut_files(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "a.ckpt", {"x": torch.ones(1000)}, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    for length in (len(data) - 1, len(data) // 2, 40):
        path.write_bytes(data[:length])
        assert "cut short or damaged" in inner_refusal(path)


def test_archives_that_torch_does_not_write(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.ckpt", {"x": torch.zeros(1000)})
    assert "compressed" in inner_refusal(rezipped(good, tmp_path / "a.ckpt", zipfile.ZIP_DEFLATED))
    short = rezipped(
        good, tmp_path / "b.ckpt", change=lambda name, data: data[:100] if name.endswith("data/0") else data
    )
    assert "cut short or damaged" in inner_refusal(short)
    noise = rezipped(good, tmp_path / "c.ckpt", change=lambda name, data: b"\x93" if name.endswith(".pkl") else data)
    assert "damaged" in inner_refusal(noise)
    with zipfile.ZipFile(tmp_path / "d.ckpt", "w") as archive:
        archive.writestr("../../escaped", "x")
    assert "damaged" in inner_refusal(tmp_path / "d.ckpt")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")
    assert "compressed" in inner_refusal(tmp_path / "a.pt")
    plain = rezipped(tmp_path / "a.pt", tmp_path / "b.pt")
    assert "could run code" in inner_refusal(plain)


def test_what_is_no_dictionary_of_plain_tensors(tmp_path: Path) -> None:
    path, base = tmp_path / "a.ckpt", torch.ones(5000)
    for content, message in [
        (torch.ones(3), "not a dictionary"),
        ([torch.ones(3)], "not a dictionary"),
        ({}, "no tensors"),
        ({"state_dict": {}}, "no tensors"),
        ({"a": 1, "b": [torch.ones(1)]}, "no tensors"),
        ({"x": torch.ones(2, dtype=torch.complex64)}, "x holds complex64"),
        ({"x": torch.eye(3).to_sparse()}, "x is not an ordinary tensor"),
        ({"x\r": torch.ones(1)}, "no name"),
        ({"x" * 400: torch.ones(1)}, "no name"),
        ({"x": torch.ones(1).expand(10**13)}, "x claims shape"),
        ({str(i): base[i:] for i in range(1000)}, "overlap"),
    ]:
        assert message in inner_refusal(saved(path, content))


def test_what_takes_too_much_memory(tmp_path: Path) -> None:
    """A call that the weights-only loader allows, and that makes eight gigabytes of zeros."""
    greedy = b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x70\x85R."
    good = saved(tmp_path / "good.ckpt", {"x": torch.zeros(10)})
    path = rezipped(good, tmp_path / "a.ckpt", change=lambda name, data: greedy if name.endswith(".pkl") else data)
    assert "takes more memory than three times its size" in refusal(path)


def test_a_process_that_dies_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.ckpt", {"x": torch.ones(2)})
    monkeypatch.setattr(torch_files, "TIMEOUT", 0.01)
    assert "takes longer" in refusal(path)
    monkeypatch.undo()
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    monkeypatch.setattr(torch_files.sys, "executable", "/bin/false")
    assert "died" in refusal(path)
