"""Generate, predict, inbetween, compose, caption and chat, from their words to their files."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people import person

from motiongpt3.cli.generate import latest, read_message, timed
from motiongpt3.cli.main import main
from motiongpt3.formats import save
from motiongpt3.models.chat import Reply
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.postprocess import postprocess

Capture = pytest.CaptureFixture[str]
Refused = Callable[..., str]


@pytest.mark.slow
def test_generate_writes_every_format_asked_for(tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    words = ["a person walks", "--model", str(tiny_model_dir), "--seconds", "2.5", "--seed", "7", "--json"]
    assert main(["generate", *words, "-o", "out/a.bvh", "-o", "out/a.npz", "--out", "b.NPY"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert [entry["file"] for entry in written] == ["out/a.bvh", "out/a.npz", "b.NPY"]
    for entry in written:
        assert (entry["prompt"], entry["seed"], entry["frames"], entry["seconds"]) == ("a person walks", 7, 50, 2.5)
        assert len(Motion.load(entry["file"])) == 50
    assert Motion.load("out/a.npz").caption == "a person walks"


@pytest.mark.slow
def test_generate_names_prompts_and_samples(tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    options = ["--model", str(tiny_model_dir), "--seconds", "1", "--guidance", "2", "--steps", "3"]
    assert main(["generate", "walks", "runs", "--samples", "2", "--seed", "5", *options, "-o", "clip.npz"]) == 0
    names = ["clip_000_00.npz", "clip_000_01.npz", "clip_001_00.npz", "clip_001_01.npz"]
    assert sorted(path.name for path in here.iterdir()) == names
    assert capsys.readouterr().out.splitlines()[0] == "clip_000_00.npz: 20 frames, 1.00 s"
    assert [Motion.load(name).caption for name in names] == ["walks", "walks", "runs", "runs"]
    assert main(["generate", "runs", "--seed", "6", *options, "-o", "alone.npz"]) == 0
    joints = Motion.load("clip_001_01.npz").joints  # sample k uses seed + k, whatever the batch
    assert np.abs(Motion.load("alone.npz").joints - joints).max() < 1e-4
    assert main(["generate", "runs", "--samples", "1", "walks", *options, "-o", "x.npz"]) == 2


@pytest.mark.slow
def test_generate_holds_what_a_file_says(tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    path = {"type": "root_path", "frames": [0, 45], "positions_xz": [[0, 0], [0.5, 0.5]]}
    Path("path.json").write_text(json.dumps([path]))
    words = [
        "generate",
        "a person walks",
        "--model",
        str(tiny_model_dir),
        "--seconds",
        "2",
        "--constraints",
        "path.json",
    ]
    words += ["--constraints-fps", "30", "-o", "held.npz"]
    assert main([*words, "--report", "cost.json"]) == 0
    assert "constraint 1 (root path)" in capsys.readouterr().out
    np.testing.assert_allclose(Motion.load("held.npz").joints[30, 0, [0, 2]], [0.5, 0.5], atol=1e-5)
    [cost] = json.loads(Path("cost.json").read_text())
    assert cost["constraints"][0]["fitted_max"] <= 1e-5
    assert main([*words, "--constraints-fps", "5"]) == 2
    assert "too late" in capsys.readouterr().err
    assert main([*words, "--constraints-fps", "5", "--best-effort"]) == 0
    assert "not met: " in capsys.readouterr().out
    assert main(["generate", "a person walks", "--report", "x.json", "-o", "x.npz"]) == 2
    assert "are for --constraints FILE" in capsys.readouterr().err
    Path("path.json").write_text("[{]")
    assert main([*words, "--report", "other.json"]) == 2
    assert not Path("other.json").exists()


def test_generate_without_seconds_and_in_another_script(tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    assert main(["generate", "человек идёт", "--model", str(tiny_model_dir), "-o", "x.npz"]) == 0
    assert 1 <= len(Motion.load("x.npz")) <= 100
    err = capsys.readouterr().err
    assert err.startswith("motiongpt3: warning: the model was trained on English")
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["", "-o", "x.bvh"], "the prompt is empty"),
        (["   \t", "-o", "x.bvh"], "the prompt is empty"),
        (["a" * 100_000, "-o", "x.bvh"], "the prompt has 100000 characters; at most 1000"),
        (["walk", "", "-o", "x.bvh"], "the prompt is empty"),
        (["wa\udcfflk", "-o", "x.bvh"], "not valid UTF-8"),
        (["walk"], "missing: -o"),
        (["-o", "x.bvh"], "missing: PROMPT"),
        (["walk", "-o", "x.fbx"], "cannot write .fbx: x.fbx; `motiongpt3 export MOTION --fbx x.fbx`"),
        (["walk", "-o", "x.c3d"], "cannot write .c3d: x.c3d; writable are .npz, .smpl.npz, .npy, .bvh"),
        (["prompts.csv", "-o", "x.bvh"], "'prompts.csv' is a file, not a prompt"),
        (["walk", "my/Prompts.JSONL", "-o", "x.bvh"], "is a file, not a prompt"),
        (["walk", "-o", "x.amc"], "cannot write .amc"),
        (["walk", "-o", "x.bvh", "-o", "x"], "a file without suffix"),
        (["walk", "-o", "no/such/x.bvh"], "cannot write to the folder no/such"),
        (["walk", "-o", "/proc/nothing/x.bvh"], "cannot write to the folder /proc/nothing"),
        (["walk", "-o", "/proc/x.bvh"], "cannot write to the folder /proc"),
        (["walk", "-o", "new/x.bvh", "-o", "new/x.bvh"], "given twice"),
        (["walk", "-o", "new/x.bvh", "-o", "no/such/x.bvh"], "cannot write to the folder no/such"),
        (["walk", "-o", f"{'x' * 250}.bvh"], "too long"),
        (["walk", "-o", "x.bvh", "--seconds", "0"], "--seconds: needs a number above 0, not 0"),
        (["walk", "-o", "x.bvh", "--seconds=-2"], "--seconds: needs a number above 0, not -2"),
        (["walk", "-o", "x.bvh", "--seconds", "nan"], "--seconds: needs a number above 0, not nan"),
        (["walk", "-o", "x.bvh", "--seconds", "four"], "--seconds: needs a number above 0, not 'four'"),
        (["walk", "-o", "x.bvh", "--samples", "0"], "--samples: needs a whole number above 0, not 0"),
        (["walk", "-o", "x.bvh", "--seed", "1.5"], "--seed: needs a whole number, 0 or more, not '1.5'"),
        (["walk", "-o", "x.bvh", "--seed", "-1"], "--seed: needs a whole number, 0 or more, not -1"),
        (["walk", "-o", "x.bvh", "--device", "tpu"], "--device: needs 'cpu' or 'cuda', not tpu"),
        (["walk", "-o", "x.bvh", "--sede", "3"], "unrecognized arguments: --sede 3"),
        (["walk", "-o"], "expected one argument"),
    ],
)
def test_generate_refuses_before_it_loads_a_model(words: list[str], reason: str, here: Path, refused: Refused) -> None:
    assert reason in refused("generate", *words, "--model", "no model is looked for")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--seconds", "5.05"], "at most 5"),
        (["jump for 80 seconds"], "in the prompt 'jump for 80 seconds.' must be more than 0 and at most 5, not 80"),
        (["jump with 0 frames"], "at most 5, not 0"),
        (["--seconds", "1e300"], "at most 5"),
        (["--seconds", "inf"], "at most 5"),
        (["--guidance", "1e9"], "guidance must be 0 to 100"),
        (["--steps", "5000"], "steps must be 1 to 1000"),
        (["--samples", "999999999999"], "samples must be 1 to 10000"),
        (["--seed", "99999999999999999999999"], "seed must be"),
    ],
)
def test_generate_refuses_what_the_model_cannot(
    words: list[str], reason: str, tiny_model_dir: Path, here: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the model's configuration alone: nothing heavy is loaded, or downloaded, to say no."""
    monkeypatch.setattr("motiongpt3.models.motiongpt3.load_backbone", None)
    assert reason in refused("generate", "walk", *words, "--model", str(tiny_model_dir), "-o", "new/x.bvh")


def damage_nothing(model: Path) -> None:
    shutil.rmtree(model)


def damage_config(model: Path) -> None:
    (model / "config.json").write_text("{")


def damage_list(model: Path) -> None:
    (model / "config.json").write_text("[1]")


def damage_sizes(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["vae"]["width"] = 18
    (model / "config.json").write_text(json.dumps(config))


def damage_weights(model: Path) -> None:
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[: len(content) // 2])


def damage_hash(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["backbone_identity"]["sha256"] = "0" * 64
    config["includes_backbone"] = False
    (model / "config.json").write_text(json.dumps(config))


def damage_backbone(model: Path) -> None:
    (model / "backbone.json").write_text('{"model_type": "bert"}')


@pytest.mark.parametrize(
    "damage",
    [damage_nothing, damage_config, damage_list, damage_sizes, damage_weights, damage_hash, damage_backbone],
)
def test_a_damaged_model_is_one_line(
    damage: Callable[[Path], None], tiny_model_dir: Path, tmp_path: Path, here: Path, refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    damage(model)
    refused("generate", "walk", "--model", str(model), "-o", "x.bvh")
    refused("evaluate", "prompts", "--model", str(model), "--json", "x.json")
    if damage not in (damage_hash, damage_sizes, damage_backbone):  # these can only be seen with the weights
        refused("info", str(model))


def test_cuda_without_a_gpu(
    here: Path, tiny_model_dir: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["generate", "walk", "-o", "x.bvh", "--model", str(tiny_model_dir), "--device", "cuda"]
    assert "no CUDA device" in refused(*words)


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Motion:
    """A motion of 3 s in walk.npz of the working folder."""
    monkeypatch.chdir(tmp_path)
    motion = Motion(person(60, speed=1.0))
    motion.save("walk.npz")
    return motion


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("words", FINISHED, ids=lambda words: words[0])
def test_finishing(walk: Motion, words: list[str], tiny_model_dir: Path, capsys: Capture) -> None:
    model = ["--model", str(tiny_model_dir)]
    assert main([*words, "-o", "raw.npz", *model]) == 0
    assert "skate" not in capsys.readouterr().out
    asked = ["--fix-feet", "--in-place", "--smooth", "0.2", "--fps", "30"]
    assert main([*words, *asked, "-o", "a.npz", "-o", "b.bvh", *model]) == 0
    said = capsys.readouterr().out
    raw, made = Motion.load("raw.npz"), Motion.load("a.npz")
    assert made == postprocess(raw, fix_feet=True, in_place=True, smooth=0.2, fps=30)
    assert f"a.npz: {len(made)} frames, {len(made) / 30:.2f} s" in said
    assert "before finishing" in said
    assert "contact_slide (cm)" in said
    assert main([*words, *asked, "--loop", "--json", "-o", "a.npz", *model]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["fps"], entry["drawn"]) == (30, {"frames": len(raw), "fps": 20})
    assert entry["finish"]["loop_pose"]["after"] < 0.1
    assert entry["finish"]["travel"]["after"] < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("words", FINISHED, ids=lambda words: words[0])
def test_files_are_written_as_asked(walk: Motion, words: list[str], tiny_model_dir: Path) -> None:
    files = ["-o", "a.bvh", "-o", "a.png", "-o", "b.npz", "--model", str(tiny_model_dir)]
    assert main([*words, *files, "--bvh-dialect", "mixamo", "--body", "mannequin"]) == 0
    made = Motion.load("b.npz")
    save(made, "mixamo.bvh", "mixamo")
    save(made, "mannequin.png", body="mannequin")
    assert Path("a.bvh").read_bytes() == Path("mixamo.bvh").read_bytes()
    assert Path("a.png").read_bytes() == Path("mannequin.png").read_bytes()


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


@pytest.mark.slow
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
        ("inbetween walk.npz --gap 1 2 --fps 2000", "fps must be a number from 0.001 to 1000, not 2000"),
        ("compose walk:0.5 --loop", "a loop is cut out of at least 1 s"),
        ("compose walk:0", "seconds must be more than 0"),
        ("compose :3", "no prompt before the colon"),
        ("compose walk:99999", "at most 10000"),
    ],
)
def test_windows_refuse_and_write_nothing(
    walk: Motion, tiny_model_dir: Path, capsys: Capture, words: str, said: str
) -> None:
    assert main([*words.split(), "-o", "out/x.npz", "--model", str(tiny_model_dir)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["walk.npz"]


@pytest.mark.slow
@pytest.mark.usefixtures("motions")
def test_what_is_printed_is_what_the_model_says(tiny_reader_dir: Path, capsys: Capture) -> None:
    model = MotionGPT3.from_pretrained(tiny_reader_dir)
    walk, long = (Motion.load(name) for name in ("walk.npz", "long.npz"))
    command = ["caption", "--model", str(tiny_reader_dir)]
    assert main([*command, "walk.npz"]) == 0
    assert capsys.readouterr().out == f"{model.caption(walk)}\n"
    Motion.load("walk.npz").save("walk.glb")
    assert main([*command, "walk.glb"]) == 0
    assert capsys.readouterr().out == f"{model.caption(Motion.load('walk.glb'))}\n"
    assert main([*command, "walk.npz", "long.npz", "--beams", "2"]) == 0
    lines = [f"walk.npz: {model.caption(walk, beams=2)}", f"long.npz (in 3 parts): {model.caption(long, beams=2)}"]
    assert capsys.readouterr().out.splitlines() == lines
    assert main([*command, "walk.npz", "long.npz", "--samples", "2", "--seed", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    texts = model.caption([walk, long], samples=2, seed=4)
    assert found == [
        {"file": "walk.npz", "captions": texts[:2], "parts": 1},
        {"file": "long.npz", "captions": texts[2:], "parts": 3},
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing: FILE"),
        (["nowhere.npz"], "nowhere.npz"),
        (["notes.txt"], "notes.txt"),
        (["walk.npz", "short.npz"], "the motion has 0.5 s; the model reads 1 s or more"),
        (["walk.npz", "--samples", "0"], "--samples: needs a whole number above 0, not 0"),
        (["walk.npz", "--samples", "101"], "samples must be a whole number from 1 to 100, not 101"),
        (["walk.npz", "--beams", "65"], "beams must be a whole number from 1 to 64, not 65"),
        (["walk.npz", "--beams", "2", "--samples", "2"], "several captions of a motion are drawn"),
        (["walk.npz", "--model", "nothing/here"], "no model 'nothing/here'"),
    ],
)
def test_caption_refuses(
    motions: Path, refused: Refused, tiny_reader_dir: Path, words: list[str], message: str
) -> None:
    model = [] if "--model" in words else ["--model", str(tiny_reader_dir)]
    assert message in refused("caption", *words, *model)


def test_a_model_of_stage_1_writes_no_captions(motions: Path, refused: Refused, tiny_model_dir: Path) -> None:
    line = refused("caption", "walk.npz", "--model", str(tiny_model_dir))
    assert line == "motiongpt3: this model was trained for text to motion alone: it cannot read motions\n"


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the model answers, in turn; the conversations it is asked are put in their place."""
    script: list[Any] = []
    heard = 0

    def chat(self: MotionGPT3, messages: Any, seed: int = 0) -> Reply:
        nonlocal heard
        reply, script[heard] = script[heard], messages
        heard += 1
        return reply

    monkeypatch.setattr(MotionGPT3, "chat", chat)
    return script


@pytest.mark.slow
@pytest.mark.usefixtures("motions")
def test_the_model_answers(tiny_reader_dir: Path, capsys: Capture) -> None:
    """As from Python, message after message."""
    model = MotionGPT3.from_pretrained(tiny_reader_dir)
    assert main(["chat", "a person @walk.npz", "jumps", "--seed", "2", "--model", str(tiny_reader_dir)]) == 0
    first = {"role": "user", "content": ["a person ", Motion.load("walk.npz")]}
    one = model.chat([first], seed=2)
    two = model.chat([first, one.message, {"role": "user", "content": "jumps"}], seed=2)
    out = capsys.readouterr().out
    expected = [reply.text or "[no answer]" for reply in (one, two) if reply.text or reply.motion is None]
    assert [line for line in out.splitlines() if not line.startswith("[a motion of")] == expected


@pytest.mark.usefixtures("motions")
def test_answered_motions_go_to_files(replies: list[Any], tiny_reader_dir: Path, capsys: Capture) -> None:
    walk = Motion.load("walk.npz")
    replies += [Reply("", walk), Reply("Fine"), Reply("Look", walk)]
    assert main(["chat", "a", "b", "c", "-o", "new/reply.npz", "--model", str(tiny_reader_dir)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "[a motion of 1.50 s: new/reply_1.npz]",
        "Fine",
        "[a motion of 1.50 s: new/reply_3.npz]",
        "Look",
    ]
    assert sorted(path.name for path in Path("new").iterdir()) == ["reply_1.npz", "reply_3.npz"]
    assert Motion.load("new/reply_1.npz") == walk
    assert [message["role"] for message in replies[2]] == ["user", "assistant"] * 2 + ["user"]
    assert replies[2][1]["content"] == [walk]


@pytest.mark.slow
@pytest.mark.usefixtures("motions")
def test_answered_motions_are_finished_and_written_as_asked(
    replies: list[Any], tiny_reader_dir: Path, capsys: Capture
) -> None:
    """The conversation goes on with what the model answered, not with what became of it."""
    walk = Motion.load("long.npz")
    replies += [Reply("", walk), Reply("", walk)]
    words = ["--fps", "30", "--in-place", "--bvh-dialect", "cmu", "--model", str(tiny_reader_dir)]
    assert main(["chat", "a", "b", "-o", "reply.bvh", *words]) == 0
    made = postprocess(walk, fps=30, in_place=True)
    assert capsys.readouterr().out.startswith(f"[a motion of {made.seconds:.2f} s: reply_1.bvh]\n")
    save(made, "cmu.bvh", "cmu")
    assert Path("reply_1.bvh").read_bytes() == Path("cmu.bvh").read_bytes()
    assert replies[1][1]["content"] == [walk]


@pytest.mark.usefixtures("motions")
def test_a_conversation_line_by_line(
    replies: list[Any], tiny_reader_dir: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad line is told and forgotten; an empty answer is no end."""
    walk = Motion.load("walk.npz")
    replies += [Reply("Hello"), Reply(""), Reply("", walk)]
    monkeypatch.setattr("sys.stdin", io.StringIO("hi\n\n@nowhere.npz\nand now?\n  dance  \n"))
    assert main(["chat", "-o", "reply.npz", "--model", str(tiny_reader_dir)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["Hello", "[no answer]", "[a motion of 1.50 s: reply_3.npz]"]
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "nowhere.npz" in err
    assert [message["content"] for message in replies[2]][::2] == [["hi"], ["and now?"], ["dance"]]


@pytest.mark.usefixtures("motions")
def test_motions_are_attached_where_they_stand() -> None:
    walk = Motion.load("walk.npz")
    walk.save("a walk.npz")
    assert read_message("from @walk.npz to @walk.npz.") == ["from ", walk, " to ", walk, "."]
    assert read_message('(@"a walk.npz")') == ["(", walk, ")"]
    assert read_message("@walk.npz") == [walk]
    assert read_message("is it @walk.npz, or not?") == ["is it ", walk, ", or not?"]
    assert read_message("write to me@home.org") == ["write to me@home.org"]
    assert read_message("one @ two") == ["one @ two"]


def test_what_is_said_first_is_forgotten_first() -> None:
    still = object()
    turn = [{"role": "user", "content": ["x"]}, {"role": "assistant", "content": [still]}]
    question = {"role": "user", "content": ["y"]}
    assert latest([*turn * 8, question]) == [*turn * 8, question]
    assert latest([*turn * 9, question]) == [*turn * 8, question]
    words = [{"role": "user", "content": ["x"]}, {"role": "assistant", "content": ["y"]}]
    assert latest([*words * 20, question]) == [*words * 15, question]
    many = {"role": "user", "content": [still] * 9}
    assert latest([*words, many]) == [many]  # the model refuses it


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([""], "the message is empty: say what you want, or attach a motion"),
        (["hello", " \n "], "the message is empty"),
        (["look: @nowhere.npz"], "nowhere.npz"),
        (["@notes.txt"], "notes.txt"),
        (["what is @short.npz"], "the motion in message 1 has 0.5 s; the model reads 1 s or more"),
        (["@walk.npz " * 9], "a conversation may hold 8 motions, not 9"),
        (["x" * 1001], "message 1 has more than 1000 characters"),
        (["hello", "-o", "reply.xyz"], "cannot write .xyz"),
        (["hello", "-o", "no/such/reply.npz"], "cannot write to the folder"),
        (["hello", "--seed", "-1"], "--seed: needs a whole number, 0 or more, not -1"),
    ],
)
def test_chat_refuses(motions: Path, refused: Refused, tiny_reader_dir: Path, words: list[str], message: str) -> None:
    assert message in refused("chat", *words, "--model", str(tiny_reader_dir))


def test_a_model_of_stage_1_does_not_converse(refused: Refused, tiny_model_dir: Path) -> None:
    assert "this model was not trained to converse" in refused("chat", "hi", "--model", str(tiny_model_dir))
