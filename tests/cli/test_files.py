"""`motiongpt3 export`, `info` and `search`: every format, what finishing changed, what files and models hold."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import invented, recorded
from people import person

from motiongpt3.cli.main import main
from motiongpt3.evaluation.tmr import load_evaluator
from motiongpt3.formats import save
from motiongpt3.motion.motion import Motion

Capture = pytest.CaptureFixture[str]
Refused = Callable[..., str]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return save(invented(0, 40, wildness=0.2), tmp_path / "clip.npz")


@pytest.mark.slow
def test_several_formats_at_once(clip: Path, tmp_path: Path, capsys: Capture) -> None:
    outs = [tmp_path / name for name in ("a.bvh", "a.glb", "a.smpl.npz", "a.png", "a.npy")]
    words = [word for out in outs for word in ("-o", str(out))]
    assert main(["export", str(clip), *words, "--body", "mannequin", "--bvh-dialect", "mixamo", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [entry["file"] for entry in facts["files"]] == [str(out) for out in outs]
    assert facts["files"][2]["fk_error_mm"] < 60
    assert "finish" not in facts
    assert "mixamorig:Hips" in outs[0].read_text()
    assert len(Motion.load(outs[2])) == 40


@pytest.mark.slow
def test_each_option_tells_what_it_changed(mocap_dir: Path, tmp_path: Path, capsys: Capture) -> None:
    clip, out = save(recorded(mocap_dir, "test", 50)[20], tmp_path / "run.npz"), tmp_path / "out.npz"
    for words, measure in (
        (["--fix-feet"], "contact_slide"),
        (["--in-place"], "travel"),
        (["--loop"], "loop_pose"),
        (["--smooth", "0.3"], "jitter"),
    ):
        assert main(["export", str(clip), "-o", str(out), *words, "--json"]) == 0
        both = json.loads(capsys.readouterr().out)["finish"][measure]
        assert both["after"] < 0.6 * both["before"], measure
    assert main(["export", str(clip), "-o", str(out), "--fps", "60"]) == 0
    assert "loop_speed (m/s)" in capsys.readouterr().out
    assert Motion.load(out).fps == 60


@pytest.mark.slow
def test_export_cuts(clip: Path, tmp_path: Path) -> None:
    """Trim, speed, mirror, ground: each as Python does it, in this order."""
    motion, out = Motion.load(clip), tmp_path / "out.npz"

    def made(*words: str) -> Motion:
        assert main(["export", str(clip), "-o", str(out), *words]) == 0
        return Motion.load(out)

    np.testing.assert_array_equal(made("--trim", "0.5:1").joints, motion.joints[10:20])
    np.testing.assert_array_equal(made("--trim", ":0.5").joints, motion.joints[:10])
    np.testing.assert_array_equal(made("--trim", "1.5:").joints, motion.joints[30:])
    np.testing.assert_array_equal(made("--mirror").joints, motion.mirror().joints)
    np.testing.assert_allclose(made("--ground").joints, motion.joints - [0, motion.joints[..., 1].min(), 0], atol=1e-6)
    np.testing.assert_array_equal(made("--speed", "2").joints, motion.joints[::2])
    assert made("--speed", "0.5").fps == motion.fps
    together = made("--ground", "--mirror", "--speed", "2", "--trim", "0.5:1")
    wanted = motion[10:20].mirror().joints[::2]
    np.testing.assert_allclose(together.joints, wanted - [0, wanted[..., 1].min(), 0], atol=1e-6)


def test_npy_files_keep_the_speed(clip: Path, tmp_path: Path, capsys: Capture) -> None:
    fast = save(Motion.load(clip).replace(fps=120), tmp_path / "fast.npz")
    out = tmp_path / "out.npy"
    assert main(["export", str(fast), "-o", str(out), "--json"]) == 0
    said = capsys.readouterr()
    assert "note: out.npy: npy files state no frame rate: resampled from 120 to 20 fps" in said.err
    assert json.loads(said.out)["files"][0]["frames"] == 7
    assert Motion.load(out).seconds == pytest.approx(40 / 120, abs=0.05)
    np.testing.assert_allclose(Motion.load(out).joints, Motion.load(clip).joints[::6], atol=1e-6)


def test_how_a_file_was_read_is_told(tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "z.npy", person(30, speed=1.0)[..., [0, 2, 1]] * [1, -1, 1] * 100)
    file, out = str(tmp_path / "z.npy"), str(tmp_path / "out.npz")
    assert main(["export", file, "-o", out, "--fps-in", "60"]) == 0
    said = capsys.readouterr().err
    assert "note: z.npy: positions are in cm, not in m" in said
    assert "--up y" in said
    np.testing.assert_allclose(Motion.load(out).joints, person(30, speed=1.0), atol=1e-5)
    assert Motion.load(out).fps == 60
    assert main(["info", file, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["up"].startswith("z (")
    assert facts["unit"] == "cm"
    assert len(facts["notes"]) == 2
    assert main(["info", file, "--up", "z", "--unit", "cm"]) == 0
    assert "note" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing to write"),
        (["-o", "x.fbx"], "--fbx x.fbx"),
        (["-o", "x.npz", "--trim", "5"], "--trim is A:B in seconds"),
        (["-o", "x.npz", "--trim", ":"], "--trim is A:B in seconds"),
        (["-o", "x.npz", "--trim", "1:0.5"], "no frame of these"),
        (["-o", "x.npz", "--trim", "9" * 400 + ":"], "no frame of these"),
        (["-o", "x.npz", "--speed", "0"], "above 0"),
        (["-o", "x.npz", "--speed", "1e9"], "fps must be"),
        (["-o", "x.npz", "--up", "w"], "up"),
        (["-o", "x.npz", "--fps-in", "0"], "above 0"),
        (["-o", "x.npz", "--fps", "-1"], "above 0"),
        (["-o", "x.npz", "--smooth", "9"], "seconds in"),
        (["-o", "x.npz", "-o", "x.npz"], "given twice"),
        (["-o", "x.bvh", "--bvh-dialect", "unreal"], "bvh_dialect|bvh-dialect"),
    ],
)
def test_export_refuses(
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    words: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(clip), *words]) == 2
    said = capsys.readouterr().err
    assert re.search(reason, said), said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["clip.npz"]


def test_info_of_a_motion(here: Path, capsys: Capture) -> None:
    joints = np.zeros((40, 22, 3), np.float32)
    joints[..., 1] = np.linspace(0, 1.7, 22)
    joints[..., 2] += np.linspace(0, 2, 40)[:, None]
    Motion(joints, caption="a person glides").save("a.npz")
    assert main(["info", "a.npz", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["frames"], facts["fps"], facts["seconds"], facts["caption"]) == (40, 20.0, 2.0, "a person glides")
    assert (facts["path_m"], facts["displacement_m"]) == (2.0, 2.0)
    assert facts["box_max_m"] == [0.0, 1.7, 2.0]
    assert facts["quality"]["max_speed (m/s)"] == pytest.approx(2 / 39 * 20, abs=1e-3)
    assert main(["info", "a.npz"]) == 0
    assert "a person glides" in capsys.readouterr().out


def test_info_of_a_model(tiny_model_dir: Path, tiny_backbone: Path, tmp_path: Path, capsys: Capture) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    (model / "README.md").write_text("---\nlicense: cc-by-nc-4.0\ndatasets: [some mocap]\n---\n# A model\n")
    assert main(["info", str(model), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["license"], facts["training_data"]) == ("cc-by-nc-4.0", ["some mocap"])
    assert facts["backbone"]["name"] == str(tiny_backbone)
    assert len(facts["backbone"]["sha256"]) == 64
    assert (facts["config"]["motion_width"], facts["max_seconds"]) == (16, 5.0)
    assert set(facts["parameters"]) == {
        "text stream", "motion stream", "queries", "length head", "diffusion head", "motion VAE"
    }  # fmt: skip
    assert main(["info", str(model)]) == 0
    assert "cc-by-nc-4.0" in capsys.readouterr().out


@pytest.mark.slow
def test_info_of_bad_files(here: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    joints = np.zeros((40, 22, 3), np.float32)
    Motion(joints).save("good.npz")
    content = Path("good.npz").read_bytes()
    Path("cut.npz").write_bytes(content[: len(content) // 2])
    np.savez("nan.npz", joints=np.full((40, 22, 3), np.nan, np.float32))
    np.save("objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    Path("cycle.bvh").write_text("HIERARCHY\nROOT a\n{\n")
    Path("alone.amc").write_text(":FULLY-SPECIFIED\n1\nroot 0 0 0 0 0 0\n")
    Path("empty.bvh").touch()
    Path("folder").mkdir()
    for name in (
        "cut.npz",
        "nan.npz",
        "objects.npy",
        "cycle.bvh",
        "alone.amc",
        "empty.bvh",
        "gone.bvh",
        "a.xyz",
        "folder",
    ):
        assert name.partition(".")[0] in refused("info", name)
    refused("info", "nobody/nothing")


@pytest.mark.slow
def test_files_come_in_the_evaluator_s_order(motions: Path, tiny_evaluator_dir: Path, capsys: Capture) -> None:
    (motions / "more").mkdir()
    Motion.load("walk.npz").mirror().save("more/other.BVH")
    evaluator = load_evaluator(str(tiny_evaluator_dir))
    files = ["long.npz", "more/other.BVH", "short.npz", "walk.npz"]
    query = evaluator.embed_texts(["somebody walks"])[0]
    expected = {file: float(evaluator.embed_motions([Motion.load(file)])[0] @ query) for file in files}
    command = ["search", "somebody walks", "--in", ".", "--evaluator", str(tiny_evaluator_dir)]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in found] == sorted(files, key=lambda file: -expected[file])
    assert {one["file"]: one["similarity"] for one in found} == pytest.approx(expected, abs=1e-5)
    assert {one["file"]: one["seconds"] for one in found}["long.npz"] == 12
    assert main([*command, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", "seconds", "similarity"]
    assert [line.split()[0] for line in lines[1:]] == [one["file"] for one in found[:2]]


def test_unreadable_files_are_named_and_skipped(motions: Path, tiny_evaluator_dir: Path, capsys: Capture) -> None:
    Path("broken.bvh").write_text("HIERARCHY of nothing")
    Path("empty.npy").touch()
    assert main(["search", "somebody walks", "--in", ".", "--evaluator", str(tiny_evaluator_dir)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    skipped = sorted(err.splitlines())
    assert [line.split(":")[1] for line in skipped] == [" skipped broken.bvh", " skipped empty.npy"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["somebody walks"], "missing: --in"),
        (["--in", "."], "missing: TEXT"),
        (["somebody walks", "--in", "nowhere"], "nowhere is no folder"),
        (["somebody walks", "--in", "walk.npz"], "walk.npz is no folder"),
        (["somebody walks", "--in", ".", "--evaluator", "nothing"], "there is no evaluator 'nothing'"),
        (["somebody walks", "--in", ".", "--top", "0"], "--top: needs a whole number above 0"),
        (["", "--in", "."], "empty"),
    ],
)
def test_search_refuses(motions: Path, refused: Refused, words: list[str], message: str) -> None:
    assert message in refused("search", *words)


def test_a_folder_without_motions(refused: Refused, motions: Path, tiny_evaluator_dir: Path) -> None:
    for file in motions.glob("*.npz"):
        file.unlink()
    assert "holds no motion files" in refused("search", "somebody walks", "--in", ".")


def test_no_file_can_be_read(motions: Path, tiny_evaluator_dir: Path, capsys: Capture) -> None:
    (motions / "bad").mkdir()
    Path("bad/broken.bvh").write_text("nothing")
    command = ["search", "somebody walks", "--in", "bad", "--evaluator", str(tiny_evaluator_dir)]
    assert main(command) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "motiongpt3: none of the files can be read as a motion"
