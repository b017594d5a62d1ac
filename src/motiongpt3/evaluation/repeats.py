"""Repeats of an evaluation: finished ones are kept on disk, and the report is their mean with its confidence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.session import Outcome
from motiongpt3.files import atomic_path

MOST_BYTES = 1 << 28
"""Of the largest file of a finished repeat that is read."""

Kept = dict[str, Any]
"""An `Outcome` as JSON holds it."""


class Shelf:
    """Where finished repeats lie: a folder beside the report, for one evaluation only.

    Args:
        report: the report's file; repeats lie in `<its name without suffix>.repeats`. None keeps nothing.
        identity: what makes an evaluation what it is; everything but the number of repeats.

    Raises:
        MotionGPT3Error: the folder holds repeats of another evaluation, or cannot be written.
    """

    def __init__(self, report: Path | None, identity: Mapping[str, Any]) -> None:
        self.folder = None if report is None else report.with_name(f"{report.stem}.repeats")
        if self.folder is None:
            return
        wanted = json.loads(json.dumps(identity))
        there = _read(self.folder / "evaluation.json")
        if there is None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MotionGPT3Error(f"cannot write {self.folder}: {error.strerror or error}") from None
            _write(self.folder / "evaluation.json", wanted)
        elif there != wanted:
            names = [name for name in wanted if not isinstance(there, dict) or there.get(name) != wanted[name]]
            raise MotionGPT3Error(
                f"{self.folder} holds repeats of another evaluation ({', '.join(names) or 'settings'} differ): remove "
                "it, or write the report elsewhere"
            )

    def get(self, number: int) -> Kept | None:
        """A finished repeat, or None; MotionGPT3Error if its file is damaged."""
        kept = None if self.folder is None else _read(self._file(number))
        if kept is not None and not (isinstance(kept, dict) and isinstance(kept.get("generated"), dict)):
            raise MotionGPT3Error(f"{self._file(number)} is damaged: remove it")
        return kept

    def put(self, number: int, outcome: Kept) -> None:
        """Keep a finished repeat."""
        if self.folder is not None:
            _write(self._file(number), outcome)

    def finished(self, repeats: int) -> int:
        """How many of the first repeats are there."""
        return sum(self.folder is not None and self._file(number).is_file() for number in range(repeats))

    def _file(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"repeat_{number:03}.json"


def run_repeats(
    repeat: Callable[[int], Outcome], repeats: int, shelf: Shelf, tick: Callable[[], object] = lambda: None
) -> list[Kept]:
    """Repeats 0 to `repeats` - 1, those that are on the shelf as they are; `tick` follows each."""
    done = []
    for number in range(repeats):
        kept = shelf.get(number)
        if kept is None:
            kept = json.loads(json.dumps(repeat(number).as_dict()))  # the same whether it was read or made
            shelf.put(number, kept)
        done.append(kept)
        tick()
    return done


def summarise(repeats: Sequence[Kept]) -> dict[str, Any]:
    """Means over repeats.

    Returns:
        `metrics`: metric -> `generated` and `real`, each {mean, ci95, repeats} over the repeats that define it, mean
        None where none does, ci95 None with fewer than two; `undefined`: metrics no repeat defines; `classes`: class ->
        {right, of, share, real} over all repeats, the shares those of what is generated and of recordings; `excluded`:
        clip -> in how many repeats a prediction was not finite.
    """
    names = list(dict.fromkeys(name for kept in repeats for name in kept["generated"]))
    metrics = {
        name: {side: interval([kept[side].get(name) for kept in repeats]) for side in ("generated", "real")}
        for name in names
    }
    classes: dict[str, list[int]] = {}
    excluded: dict[str, int] = {}
    for kept in repeats:
        for name, counted in kept["classes"].items():
            classes[name] = [total + more for total, more in zip(classes.get(name, [0, 0, 0]), counted, strict=True)]
        for name in kept["excluded"]:
            excluded[name] = excluded.get(name, 0) + 1
    return {
        "metrics": metrics,
        "undefined": [name for name in names if metrics[name]["generated"]["mean"] is None],
        "classes": {
            name: {"right": right, "of": of, "share": right / max(of, 1), "real": real / max(of, 1)}
            for name, (right, of, real) in sorted(classes.items())
        },
        "excluded": excluded,
    }


def interval(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean and half of the 95 % confidence interval: 1.96 s / sqrt(n), s the standard deviation with n - 1."""
    usable = [value for value in values if value is not None]
    mean = math.fsum(usable) / len(usable) if usable else None
    spread = 1.96 * float(np.std(usable, ddof=1)) / math.sqrt(len(usable)) if len(usable) > 1 else None
    return {"mean": mean, "ci95": spread, "repeats": len(usable)}


def _read(file: Path) -> Any:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise MotionGPT3Error(f"{file} is damaged: it is far too large; remove it")
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except MotionGPT3Error:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise MotionGPT3Error(f"{file} is damaged ({str(error).splitlines()[0]}): remove it") from None


def _write(file: Path, content: Any) -> None:
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
