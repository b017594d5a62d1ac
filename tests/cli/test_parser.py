"""Typed functions as commands: which words they take, and what their help says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from jsonargparse.typing import PositiveInt

from motiongpt3.cli.parser import Arg, run_command
from motiongpt3.errors import MotionGPT3Error

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Size:
    """How large."""

    width: Annotated[int, Arg("W", PositiveInt)]
    """from left
    to right"""
    unit: Literal["cm", "m"] = "cm"
    """of lengths"""
    show: Callable[..., Any] = print
    """no word can say it"""


@dataclass(frozen=True)
class Place:
    """Where, and how large."""

    size: Size
    floor: Annotated[int, Arg("N", int)] = 0
    """above the ground"""


def paint(
    name: Annotated[str, Arg("NAME")],
    colours: list[Annotated[str, Arg("COLOUR")]] | None = None,
    *,
    place: Place,
    out: Annotated[list[str], Arg("FILE", flags="-o --out", repeat=True)],
    span: Annotated[tuple[float, float] | None, Arg(("FROM", "TO"), float)] = None,
    dry: bool = False,
    frame: bool = True,
    tags: list[Annotated[str, Arg("TAG")]] | None = None,
) -> int:
    """Paint a picture. It is
    done at once.

    Args:
        name: what it is called
        colours: of what there is
        unit: of lengths and widths
        out: file to write, one of {writable}
        span: hours
        dry: only try
        frame: with one around
        tags: to find it

    Examples:
      paint x red
          in red
    """
    seen.append((name, colours, place, out, span, dry, frame, tags))
    return 3


seen: list[Any] = []


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ("a -o x --width 3", ("a", [], Place(Size(3)), ["x"], None, False, True, None)),
        (
            "a b c -o x -o y --width 3 --unit m",
            ("a", list("bc"), Place(Size(3, "m")), ["x", "y"], None, False, True, None),
        ),
        ("a --out x --width 3 --span 1 2.5 --dry", ("a", [], Place(Size(3)), ["x"], [1, 2.5], True, True, None)),
        (
            "a -o x --width 3 --floor 2 --no-frame --tags t",
            ("a", [], Place(Size(3), 2), ["x"], None, False, False, ["t"]),
        ),
    ],
)
def test_words_become_arguments(words: str, made: tuple[Any, ...]) -> None:
    seen.clear()
    assert run_command(paint, "paint", words.split()) == 3
    assert seen == [made]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-o x --width 3", "missing: NAME"),
        ("a --width 3", "missing: -o"),
        ("a -o x", "missing: --width"),
        ("a -o x --width 0", "--width: needs a whole number above 0, not 0"),
        ("a -o x --width 3 --unit km", "--unit: needs 'cm' or 'm', not km"),
        ("a -o x --width 3 --span 1", "expected 2 arguments"),
        ("a -o x --width 3 --wid 4", "unrecognized arguments: --wid 4"),
        ("a -o x --width 3 --show 4", "unrecognized arguments: --show 4"),
    ],
)
def test_words_that_do_not_fit(words: str, said: str) -> None:
    with pytest.raises(MotionGPT3Error, match=said) as raised:
        run_command(paint, "paint", words.split())
    assert str(raised.value).endswith(" (see motiongpt3 paint --help)")


def test_help(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        run_command(paint, "paint", ["--help"])
    out = capsys.readouterr().out
    assert "Paint a picture. It is done at once." in out
    assert "  -o FILE, --out FILE" in out
    assert "  --span FROM TO" in out
    assert "  --frame, --no-frame" in out
    assert out.endswith("examples:\n  paint x red\n      in red\n")
    words = " ".join(out.split())
    assert "--width W from left to right --unit cm|m of lengths and widths (default: cm)" in words
    assert "file to write, one of .npz, .smpl.npz, .npy, .bvh" in words
    assert "show" not in words.replace("show this help", "")
