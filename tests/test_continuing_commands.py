"""`motiongpt3 predict`, `inbetween`, `compose` from their words to their files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from people import person

from motiongpt3 import Motion
from motiongpt3.cli import main
from motiongpt3.commands.continuing import timed
from motiongpt3.motion.finish import finish

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Motion:
    """A motion of 3 s in walk.npz of the working folder."""
    monkeypatch.chdir(tmp_path)
    motion = Motion(person(60, speed=1.0))
    motion.save("walk.npz")
    return motion


def test_predict(walk: Motion, tiny_model_dir: Path, capsys: Capture) -> None:
    words = ["predict", "walk.npz", "--seconds", "1.5", "--prompt", "a person jumps", "-o", "a.npz", "-o", "b.bvh"]
    assert main([*words, "--model", str(tiny_model_dir)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "a.npz: 90 frames, 4.50 s (60 given, 30 new)"
    assert np.array_equal(Motion.load("a.npz").joints[:60], walk.joints)
    assert len(Motion.load("b.bvh")) == 90
    walk.save("walk.glb")
    assert main([*words[:1], "walk.glb", *words[2:], "--model", str(tiny_model_dir)]) == 0
    given = Motion.load("a.npz").joints[:60]
    assert np.array_equal(given, Motion.load("walk.glb").joints)
    np.testing.assert_allclose(given, walk.joints, atol=1e-3)


def test_inbetween_with_a_gap_and_with_two_files(walk: Motion, tiny_model_dir: Path, capsys: Capture) -> None:
    model = ["--model", str(tiny_model_dir), "--json"]
    assert main(["inbetween", "walk.npz", "--gap", "1", "1.5", "-o", "a.npz", *model]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["before"], entry["new"], entry["after"]) == (20, 10, 30)
    mended = Motion.load("a.npz").joints
    assert np.array_equal(mended[:20], walk.joints[:20])
    assert np.array_equal(mended[30:], walk.joints[30:])
    assert not np.array_equal(mended[20:30], walk.joints[20:30])
    assert main(["inbetween", "walk.npz", "a.npz", "--seconds", "2", "-o", "b.npz", *model]) == 0
    assert len(Motion.load("b.npz")) == 160


def test_compose(walk: Motion, tiny_model_dir: Path, capsys: Capture) -> None:
    words = ["compose", "a person walks: 1", "a person jumps:2.5s", "-o", "a.npz", "--model", str(tiny_model_dir)]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "a.npz: 70 frames, 3.50 s",
        "  0.00 to 1.00 s: a person walks",
        "  1.00 to 3.50 s: a person jumps",
    ]


FINISHED = [
    ["predict", "walk.npz", "--seconds", "1"],
    ["inbetween", "walk.npz", "--gap", "1", "1.5"],
    ["compose", "a person walks: 1", "a person jumps: 1"],
]


@pytest.mark.parametrize("words", FINISHED, ids=lambda words: words[0])
def test_finishing(walk: Motion, words: list[str], tiny_model_dir: Path, capsys: Capture) -> None:
    model = ["--model", str(tiny_model_dir)]
    assert main([*words, "-o", "raw.npz", *model]) == 0
    assert "skate" not in capsys.readouterr().out
    asked = ["--fix-feet", "--in-place", "--smooth", "0.2", "--fps", "30"]
    assert main([*words, *asked, "-o", "a.npz", "-o", "b.bvh", *model]) == 0
    said = capsys.readouterr().out
    raw, made = Motion.load("raw.npz"), Motion.load("a.npz")
    assert made == finish(raw, fix_feet=True, in_place=True, smooth=0.2, fps=30)
    assert f"a.npz: {len(made)} frames, {len(made) / 30:.2f} s" in said
    assert "before finishing" in said
    assert "contact_slide (cm)" in said
    assert main([*words, *asked, "--loop", "--json", "-o", "a.npz", *model]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["fps"], entry["drawn"]) == (30, {"frames": len(raw), "fps": 20})
    assert entry["finish"]["loop_pose"]["after"] < 0.1
    assert entry["finish"]["travel"]["after"] < 0.02


@pytest.mark.parametrize("command", ["predict", "inbetween"])
def test_help_says_that_finishing_changes_given_frames(command: str, capsys: Capture) -> None:
    assert main([command, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "come back exactly, unless the whole is finished (--fix-feet" in said


def test_seconds_after_a_colon() -> None:
    assert timed("walk forward: 3") == ("walk forward", 3.0)
    assert timed("sit: slowly: 2.5 seconds") == ("sit: slowly", 2.5)
    assert timed("walk forward") == "walk forward"
    assert timed("one thing: then another") == "one thing: then another"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("predict none.npz --seconds 1", "cannot read none.npz"),
        ("predict walk.npz --seconds 0", "--seconds: needs a number above 0"),
        ("predict walk.npz --seconds -3", "--seconds: needs a number above 0"),
        ("predict walk.npz --seconds 1e9", "seconds must be more than 0 and at most 9997"),
        ("predict walk.npz", "missing: --seconds"),
        ("inbetween walk.npz --seconds 1", "give two files"),
        ("inbetween walk.npz walk.npz", "missing: --seconds"),
        ("inbetween walk.npz walk.npz --gap 1 2", "--gap FROM TO is for one file"),
        ("inbetween walk.npz --gap 0 1", "leaves nothing on one side"),
        ("inbetween walk.npz --gap 2 3", "leaves nothing on one side"),
        ("inbetween walk.npz --gap 2 1", "must end after it begins"),
        ("inbetween walk.npz --gap 1 1.01", "shorter than a frame"),
        ("inbetween walk.npz --gap 0.5 1", "before the gap has 0.5 s; the model reads 1 s"),
        ("predict walk.npz --seconds 1 --smooth 9", "seconds in (0, 5], not 9"),
        ("predict walk.npz --seconds 1 --fps 0", "--fps: needs a number above 0"),
        ("inbetween walk.npz --gap 1 2 --fps 2000", "fps must be a number in (0, 1000], not 2000"),
        ("compose walk:0.5 --loop", "a loop is cut out of at least 1 s"),
        ("compose walk:0", "seconds must be more than 0"),
        ("compose :3", "no prompt before the colon"),
        ("compose walk:99999", "at most 10000"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    walk: Motion, tiny_model_dir: Path, capsys: Capture, words: str, said: str
) -> None:
    assert main([*words.split(), "-o", "out/x.npz", "--model", str(tiny_model_dir)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["walk.npz"]
