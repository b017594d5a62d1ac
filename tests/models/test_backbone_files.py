"""Files of language models: folders, the cache and the registry, each whole or refused in one line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models import backbone_files
from motiongpt3.models.backbone import TextBackbone, load_backbone


def test_bad_folders_get_one_line(backbone_folder: Path) -> None:
    def fails(name: str, content: bytes | None) -> None:
        whole = (backbone_folder / name).read_bytes()
        if content is None:
            (backbone_folder / name).unlink()
        else:
            (backbone_folder / name).write_bytes(content)
        with pytest.raises(MotionGPT3Error) as caught:
            load_backbone(str(backbone_folder))
        assert "\n" not in str(caught.value)
        (backbone_folder / name).write_bytes(whole)

    settings = json.loads((backbone_folder / "config.json").read_text())
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        size = (backbone_folder / name).stat().st_size
        for content in (None, b"", b"\xff\xfe{", (backbone_folder / name).read_bytes()[: size // 2]):
            fails(name, content)
    changes = ({"model_type": "bert"}, {"num_hidden_layers": 4}, {"hidden_size": 64}, {"hidden_act": "gelu"})
    more = ({"num_hidden_layers": "x"}, {"rope_parameters": {"rope_type": "llama3"}}, {"rope_parameters": 3})
    for change in changes + more + ({"tie_word_embeddings": False}, {"num_hidden_layers": 10**12}, {"head_dim": -8}):
        fails("config.json", json.dumps(settings | change).encode())
    del settings["intermediate_size"]
    fails("config.json", json.dumps(settings).encode())
    fails("config.json", b"[1]")


@pytest.mark.slow
def test_nothing_reachable_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTIONGPT3_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for key, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_EXTRA_INDEX_URL": "", "PIP_NO_INDEX": "1"}.items():
        monkeypatch.setenv(key, value)
    for name, word in (("nobody/no-such-model", "hub"), ("smollm2-135m-instruct", "registry")):
        with pytest.raises(MotionGPT3Error, match=word) as caught:
            load_backbone(name)
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("smollm2-*/")), "nothing half-made is left"
    wheel = backbone_files.REGISTRY["smollm2-135m-instruct"].wheel
    (tmp_path / "cache" / wheel).write_bytes(b"PK not the wheel")
    with pytest.raises(MotionGPT3Error, match="sha256"):
        load_backbone()
    with pytest.raises(MotionGPT3Error, match="sha256"):
        load_backbone(sha256="0" * 64)


def test_a_damaged_cache_is_noticed(tmp_path: Path) -> None:
    source = backbone_files.REGISTRY["smollm2-135m-instruct"]
    assert not backbone_files._intact(tmp_path, source)
    names = ("model.safetensors", "tokenizer.json", "config.json")
    for name in names:
        (tmp_path / name).write_text(name)
    digests = {name: backbone_files._digest(tmp_path / name) for name in names}
    (tmp_path / "source.json").write_text(json.dumps({"sha256": source.gguf_sha256, "files": digests}))
    assert backbone_files._intact(tmp_path, source)
    (tmp_path / "model.safetensors").write_text("model.safetensorz")
    assert not backbone_files._intact(tmp_path, source)
    (tmp_path / "source.json").write_text("[]")
    assert not backbone_files._intact(tmp_path, source)


@pytest.mark.slow
def test_a_copy_of_the_cache_serves_without_network(
    smollm: TextBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = backbone_files.find_backbone("smollm2-135m-instruct").folder
    copy = tmp_path / source.name
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).symlink_to(path)
    monkeypatch.setenv("MOTIONGPT3_CACHE", str(tmp_path))
    monkeypatch.setattr(backbone_files, "_download", lambda *_: pytest.fail("no download is needed"))
    assert torch.equal(load_backbone().embedding.float(), smollm.embedding)
    shutil.rmtree(copy)


def test_several_files_of_weights_have_one_hash(backbone_folder: Path) -> None:
    one = backbone_files.find_backbone(str(backbone_folder))
    weights = one.read()[1]
    assert one.sha256 == hashlib.sha256((backbone_folder / "model.safetensors").read_bytes()).hexdigest()
    (backbone_folder / "model.safetensors").unlink()
    names = sorted(weights)
    for number, part in enumerate((names[:3], names[3:])):
        save_file({name: weights[name].clone() for name in part}, backbone_folder / f"model-{number}.safetensors")
    both = backbone_files.find_backbone(str(backbone_folder))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in both.weights]
    assert both.sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()
    again = both.read()[1]
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in names)


def test_the_cache_is_where_the_variables_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOTIONGPT3_CACHE", str(tmp_path / "own"))
    assert backbone_files.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MOTIONGPT3_CACHE")
    monkeypatch.setenv("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", str(tmp_path))
    assert backbone_files.cache_folder() == tmp_path / "motiongpt3"


def test_what_comes_from_the_hub_is_pinned(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit becomes part of the name, and is what is asked for the next time."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "snapshots" / commit
    shutil.copytree(backbone_folder, folder)
    asked: list[tuple[str, str | None]] = []

    def snapshot_download(name: str, *, revision: str | None, **_: object) -> str:
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    first = load_backbone("someone/words")
    assert first.identity["name"] == f"someone/words@{commit}"
    assert load_backbone(**first.identity).identity == first.identity
    assert asked == [("someone/words", None), ("someone/words", commit)]


FIRST_USE = """
import sys, time
from pathlib import Path
from motiongpt3.models import backbone_files as files
def fetch(name, source, folder):
    print("converts", flush=True)
    time.sleep(1)
    folder.mkdir()
    for part in ("model.safetensors", "tokenizer.json", "config.json"):
        (folder / part).write_text(part)
    digests = {path.name: files._digest(path) for path in folder.iterdir()}
    (folder / "source.json").write_text(files.json.dumps({"sha256": source.gguf_sha256, "files": digests}))
files._fetch = fetch
print(files.find_backbone("smollm2-135m-instruct").folder.name)
"""


@pytest.mark.slow
def test_the_first_use_by_several_processes_at_once(tmp_path: Path) -> None:
    """One converts, the others wait, all have the same files."""
    environment = os.environ | {"MOTIONGPT3_CACHE": str(tmp_path / "fresh")}
    command = [sys.executable, "-c", FIRST_USE]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=300)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sum("converts" in words for words in said) == 1
    assert len({words[-1] for words in said}) == 1
