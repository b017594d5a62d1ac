"""How far a reader has to go: files and calls between functions of a forward pass, a command and a training step.

    python benchmarks/hops.py                       # a forward pass, and `generate … -o x.bvh`
    python benchmarks/hops.py train stage1 …        # the second training step of this training, words as for motiongpt3
    python benchmarks/hops.py --list                # which they are

A hop leads from a function of one file of the package to a function of another, by a call or by the return from it,
whatever libraries lie between, and counts once: where a reader who follows what runs has to turn to another file.
Comprehensions count as the function they stand in, and what runs while modules are imported does not count. The forward
pass is what `generate` of a loaded model runs from the first to the last function that takes or gives a tensor.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import motiongpt3

PACKAGE = f"{Path(motiongpt3.__file__).parent}{os.sep}"
FUNCTION = 2  # inspect.CO_NEWLOCALS: not the body of a module or a class


class Function(NamedTuple):
    """A function of the package."""

    file: str
    name: str


class Call(NamedTuple):
    """A call of `callee`, or the return from it."""

    caller: Function | None
    callee: Function
    begins: bool
    tensors: bool


def function(code: CodeType) -> Function | None:
    """The function whose code this is; None outside the package."""
    if not code.co_filename.startswith(PACKAGE) or not code.co_flags & FUNCTION:
        return None
    name = code.co_qualname
    while name.endswith(">") and ".<locals>.<" in name:
        name = name.rpartition(".<locals>.<")[0]
    return Function(code.co_filename[len(PACKAGE) :], name)


def caller(frame: FrameType | None) -> Function | None:
    """The nearest function of the package around a frame."""
    while frame is not None:
        if found := function(frame.f_code):
            return found
        frame = frame.f_back
    return None


@contextmanager
def watching(calls: list[Call]) -> Iterator[None]:
    """Append what is called meanwhile."""
    import torch

    importing = 0

    def watch(frame: FrameType, event: str, given: Any) -> None:
        nonlocal importing
        if event not in ("call", "return") or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        if frame.f_code.co_name == "<module>":
            importing += 1 if event == "call" else -1
        elif not importing and (callee := function(frame.f_code)):
            values = [given, *(frame.f_locals.values() if event == "call" else ())]
            tensors = any(isinstance(value, torch.Tensor) for value in values)
            calls.append(Call(caller(frame.f_back), callee, event == "call", tensors))

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def report(title: str, calls: list[Call], listing: bool) -> None:
    """Print the numbers, and what they count."""
    files = sorted({call.callee.file for call in calls if call.begins})
    path = [call.callee if call.begins else call.caller for call in calls]
    steps = pairwise(function for function in path if function is not None)
    hops = sorted({(one, other) for one, other in steps if one.file != other.file})
    print(f"{title}: {len(files)} files, {len(hops)} hops")
    if listing:
        print("  " + " ".join(files))
        print("\n".join(f"  {a.file}:{a.name} -> {b.file}:{b.name}" for a, b in hops))


def run(words: list[str]) -> None:
    """The command, without what it prints."""
    from motiongpt3.cli.main import main

    kept = os.dup(1)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        try:
            code = main(words)
        finally:
            os.dup2(kept, 1)
    if code:
        sys.exit(code)


def forward() -> list[Call]:
    """Generation with the model loaded, from the first to the last tensor."""
    model = motiongpt3.MotionGPT3.from_pretrained()
    model.generate("a person walks", seconds=2)
    calls: list[Call] = []
    with watching(calls):
        model.generate("a person walks", seconds=2)
    touched = [number for number, call in enumerate(calls) if call.tensors]
    return calls[touched[0] : touched[-1] + 1]


def training_step(words: list[str]) -> list[Call]:
    """The second step of a training."""
    from pytorch_lightning.strategies import Strategy

    calls: list[Call] = []
    own, steps = Strategy.training_step, 0

    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps != 2:
            return own(*arguments, **options)
        with watching(calls):
            return own(*arguments, **options)

    Strategy.training_step = watched
    run(words)
    return calls


def main() -> None:
    listing = "--list" in sys.argv
    words = [word for word in sys.argv[1:] if word != "--list"]
    if words:
        report(" ".join(words[:2]), training_step(words), listing)
        return
    calls: list[Call] = []
    with tempfile.TemporaryDirectory() as folder, watching(calls):
        run(["generate", "a person walks", "--seconds", "2", "-o", f"{folder}/x.bvh"])
    report("generate … -o x.bvh", calls, listing)
    report("forward pass", forward(), listing)


if __name__ == "__main__":
    main()
