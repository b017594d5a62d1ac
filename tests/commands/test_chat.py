"""`motiongpt3 chat`: messages with motions attached, answers on the screen and in files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from motiongpt3.cli import main
from motiongpt3.commands.chat import latest, read_message
from motiongpt3.models.chatting import Reply
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion

Capture = pytest.CaptureFixture[str]


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


@pytest.mark.usefixtures("here")
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


@pytest.mark.usefixtures("here")
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


@pytest.mark.usefixtures("here")
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


@pytest.mark.usefixtures("here")
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
def test_bad_input_is_one_line(
    refused: Callable[..., str], tiny_reader_dir: Path, words: list[str], message: str
) -> None:
    assert message in refused("chat", *words, "--model", str(tiny_reader_dir))


def test_a_model_of_stage_1_says_so(refused: Callable[..., str], tiny_model_dir: Path) -> None:
    assert "this model was not trained to converse" in refused("chat", "hi", "--model", str(tiny_model_dir))
