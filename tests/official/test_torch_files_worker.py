"""What the process that opens torch files takes and refuses, asked in this process."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch_bombs import inner_refusal, rezipped, saved

from motiongpt3.official.torch_files_worker import SPARE_BYTES, limited_resources, main, reason

pytestmark = pytest.mark.usefixtures("no_explosion")


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


def test_what_comes_out_is_the_tensors_and_names_that_mean_one_twice(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    state = {"a": base, "b": base, "turned": base.t(), "row": base[1], "none": torch.zeros(0)}
    path = saved(tmp_path / "a.ckpt", {"state_dict": state, "epoch": 3})
    assert main(str(path), str(tmp_path / "out")) == {"aliases": {"b": "a"}, "left_out": ["epoch"]}
    found = load_file(tmp_path / "out")
    assert set(found) == {"a", "turned", "row", "none"}
    assert all(torch.equal(found[name], state[name]) for name in found)


def test_the_reason_is_the_last_line_that_says_something() -> None:
    error = ValueError("first\n\n bad magic \nuse weights_only=False\nsee the docs\n")
    assert reason(error) == "bad magic"
    assert reason(ValueError("x" * 500)) == "x" * 120
    assert reason(KeyError()) == "KeyError"


def test_limits_are_put_back() -> None:
    resource = pytest.importorskip("resource")
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)
    before = [resource.getrlimit(kind) for kind in kinds]
    with limited_resources(1000):
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] <= 3000 + SPARE_BYTES
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    assert [resource.getrlimit(kind) for kind in kinds] == before
