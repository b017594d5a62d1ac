"""Torch files of strangers: tensors come out bit by bit, code never runs, damage is one line."""

from __future__ import annotations

import pickle
import sys
import tarfile
import types
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_bombs import Bomb, inner_refusal, one_line, rezipped, saved

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.official import torch_files
from motiongpt3.official.torch_files import TorchFile, open_torch_file

pytestmark = pytest.mark.usefixtures("no_explosion")


def read(path: Path) -> TorchFile:
    with open_torch_file(path) as file:
        return TorchFile({name: tensor.clone() for name, tensor in file.tensors.items()}, file.left_out)


def refusal(path: Path) -> str:
    """Why the file is refused, by the process that guards us."""
    with pytest.raises(MotionGPT3Error) as caught, open_torch_file(path):
        pass
    assert caught.value.__cause__ is None
    return one_line(str(caught.value))


@pytest.mark.slow
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


@pytest.mark.slow
def test_dictionaries_in_a_dictionary(tmp_path: Path) -> None:
    content = {"a": {"x": torch.ones(2), "deep": {"y": torch.zeros(1), "deeper": {"z": torch.ones(1)}}}, "iter": 5}
    torch.save(content, tmp_path / "a.tar", _use_new_zipfile_serialization=False)
    found = read(tmp_path / "a.tar")
    assert set(found.tensors) == {"a.x", "a.deep.y"}
    assert found.left_out == ["a.deep.deeper", "iter"]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
