"""FBX by a program that stands for Blender, and by Blender itself where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from blender import in_blender, needs_blender
from clips import invented

from motiongpt3.cli.main import main
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load, save
from motiongpt3.formats.fbx import find_blender, glb_to_fbx
from motiongpt3.motion.postprocess import postprocess

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return save(invented(0, 40, wildness=0.2), tmp_path / "clip.npz")


def program(folder: Path, lines: str) -> Path:
    """A program that stands for Blender: $T is the file to write."""
    path = folder / "blender"
    path.write_text(f'#!/bin/sh\nfor T; do :; done\necho "$@" > "{folder}/words"\n{lines}\n')
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_fbx_by_blender(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("MOTIONGPT3_BLENDER", str(program(folder, 'echo made > "$T"')))
    out = tmp_path / "a.fbx"
    assert main(["export", str(clip), "--fbx", str(out)]) == 0
    assert out.read_text() == "made\n"
    words = (folder / "words").read_text()
    assert words.split()[-3] == "20.0"
    assert "--background" in words
    assert "export_scene.fbx" in words
    out.unlink()
    for lines, reason in (
        ("echo 'KeyError: no such thing' >&2; echo 'Error: script failed, expr: ...'; exit 1", "no such thing"),
        ("exit 0", "exit code 0"),
    ):
        program(folder, lines)
        assert main(["export", str(clip), "--fbx", str(out)]) == 2
        assert reason in capsys.readouterr().err
    monkeypatch.setenv("MOTIONGPT3_BLENDER", str(tmp_path / "none"))
    assert main(["export", str(clip), "--fbx", str(out)]) == 2
    monkeypatch.delenv("MOTIONGPT3_BLENDER")
    monkeypatch.setattr("motiongpt3.formats.fbx._PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["export", str(clip), "--fbx", str(out)]) == 2
    said = capsys.readouterr().err
    assert "https://www.blender.org/download" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "clip.npz"]


@needs_blender
@pytest.mark.parametrize("fps", [20, 30])
def test_fbx_by_the_real_blender(clip: Path, tmp_path: Path, fps: int) -> None:
    fbx = tmp_path / "a.fbx"
    assert main(["export", str(clip), "--fps", str(fps), "--fbx", str(fbx)]) == 0
    assert fbx.read_bytes().startswith(b"Kaydara FBX Binary")
    seen = in_blender(fbx, "import_scene.fbx", tmp_path)
    assert (seen.fps, seen.meshes) == (fps, 1)
    seen.compare(postprocess(load(clip), fps=fps))


def test_the_variable_goes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("own", "path"):
        (tmp_path / folder).mkdir()
        program(tmp_path / folder, "")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("MOTIONGPT3_BLENDER", raising=False)
    assert find_blender() == str(tmp_path / "path" / "blender")
    monkeypatch.setenv("MOTIONGPT3_BLENDER", str(tmp_path / "own" / "blender"))
    assert find_blender() == str(tmp_path / "own" / "blender")
    monkeypatch.setenv("MOTIONGPT3_BLENDER", str(tmp_path / "none"))
    with pytest.raises(MotionGPT3Error, match=r"MOTIONGPT3_BLENDER names .*none, which is no program"):
        find_blender()


def test_a_blender_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motiongpt3.formats.fbx.SECONDS", 0.1)
    folder = tmp_path / "bin"
    folder.mkdir()
    with pytest.raises(MotionGPT3Error, match="did not finish within"):
        glb_to_fbx(tmp_path / "a.glb", tmp_path / "a.fbx", 20, str(program(folder, "exec sleep 20")))
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
