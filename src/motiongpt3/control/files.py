"""Constraints in files: Kimodo's constraints.json and scene folders, MMCP's array, told apart by their types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motiongpt3.control import kimodo, mmcp
from motiongpt3.control.constraints import MAX_CONSTRAINTS, AnyConstraint
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import check_fps
from motiongpt3.serialization import atomic_folder, atomic_path
from motiongpt3.untrusted import json_object, json_value, read_bytes

MODEL_FPS = 20.0
"""Frames per second at which frame indices count where a file names no rate."""
_MAX_BYTES = 2**25  # 32 MB: a whole pose in each of 1,000 frames has 3 MB
_META, _CONSTRAINTS = "meta.json", "constraints.json"


@dataclass(frozen=True)
class Scene:
    """What a folder of Kimodo asks for.

    Attributes:
        prompts: sentences, one after the other.
        seconds: of each, None where the folder does not say.
        constraints: of the whole.
        seed: of the drawing, None where the folder does not say.
    """

    prompts: tuple[str, ...]
    seconds: tuple[float | None, ...]
    constraints: tuple[AnyConstraint, ...]
    seed: int | None = None


def load(path: str | Path, fps: float | None = None) -> list[AnyConstraint]:
    """The constraints in a file.

    Args:
        path: a JSON array of Kimodo's sets or MMCP's constraints, or an object with such an array as `constraints`
            (an MMCP request) and perhaps its frame rate as `fps` or `timing.fps`.
        fps: frames per second of its frame indices, whatever it says; None: as it says, else 20.

    Raises:
        MotionGPT3Error: no such file, damaged, too large, or constraints that are none.
    """
    file = Path(path)
    found = json_value(read_bytes(file, _MAX_BYTES, f"is larger than {_MAX_BYTES // 2**20} MB"), file.name)
    if isinstance(found, dict):
        timing = found.get("timing")
        told = timing.get("fps") if isinstance(timing, dict) else found.get("fps")
        if fps is None and told is not None:
            if not isinstance(told, int | float):
                raise MotionGPT3Error(f"{file.name}: fps must be a number, not {str(told)[:40]!r}")
            fps = float(told)
        found = found.get("constraints")
    if not isinstance(found, list):
        raise MotionGPT3Error(f"{file.name} holds no array of constraints")
    if len(found) > MAX_CONSTRAINTS:
        raise MotionGPT3Error(f"{file.name} holds {len(found)} constraints; {MAX_CONSTRAINTS} at most")
    rate = MODEL_FPS if fps is None else fps
    check_fps(rate)
    made: list[AnyConstraint] = []
    for number, entry in enumerate(found, start=1):
        try:
            made += _read(entry, rate)
        except MotionGPT3Error as error:
            raise MotionGPT3Error(f"{file.name}, constraint {number}: {error}") from None
        if len(made) > MAX_CONSTRAINTS:
            raise MotionGPT3Error(f"{file.name} holds more than {MAX_CONSTRAINTS} constraints and poses")
    return made


def _read(entry: Any, fps: float) -> list[AnyConstraint]:
    if not isinstance(entry, dict):
        raise MotionGPT3Error("it is no object")
    kind = entry.get("type")
    if kind in kimodo.TYPES:
        return kimodo.from_set(entry, fps)
    if kind in mmcp.TYPES:
        return mmcp.from_entry(entry, fps)
    raise MotionGPT3Error(f"no type {str(kind)[:40]!r}: there are {', '.join((*kimodo.TYPES, *mmcp.TYPES))}")


def save(constraints: Sequence[AnyConstraint], path: str | Path, fps: float = MODEL_FPS) -> Path:
    """Write Kimodo's array, its frames at `fps`; returns the path.

    Raises:
        MotionGPT3Error: a constraint of a kind that the format does not have, or the file cannot be written.
    """
    sets = kimodo.to_sets(constraints, fps)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(sets), encoding="utf-8")
    return Path(path)


def load_scene(folder: str | Path, fps: float | None = None) -> Scene:
    """A folder of `meta.json` (`text`, or `texts` and `durations`; `seed`) and perhaps `constraints.json`.

    Raises:
        MotionGPT3Error: a file is missing or damaged, or holds something else.
    """
    meta = Path(folder) / _META
    found = json_object(read_bytes(meta, _MAX_BYTES, "is too large"), meta.name)
    texts = found.get("texts", [found.get("text")])
    durations = found.get("durations", [found.get("duration")])
    if not isinstance(texts, list) or not texts or len(texts) > 1000 or not all(isinstance(t, str) for t in texts):
        raise MotionGPT3Error(f"{meta.name}: text must be a sentence, or texts a list of them")
    durations = durations if isinstance(durations, list) and len(durations) == len(texts) else [None] * len(texts)
    if not all(each is None or (isinstance(each, int | float) and 0 < each <= 3600) for each in durations):
        raise MotionGPT3Error(f"{meta.name}: durations must be seconds")
    seed = found.get("seed")
    if seed is not None and not isinstance(seed, int):
        raise MotionGPT3Error(f"{meta.name}: seed must be a whole number, not {str(seed)[:40]!r}")
    if fps is None and isinstance(found.get("fps"), int | float):
        fps = float(found["fps"])
    held = Path(folder) / _CONSTRAINTS
    return Scene(tuple(texts), tuple(durations), tuple(load(held, fps)) if held.is_file() else (), seed)


def save_scene(scene: Scene, folder: str | Path, fps: float = MODEL_FPS) -> Path:
    """Write a scene as `load_scene` reads it, with its frame rate; returns the folder."""
    meta: dict[str, Any] = {
        "texts": list(scene.prompts),
        "durations": list(scene.seconds),
        "seed": scene.seed,
        "fps": fps,
    }
    if len(scene.prompts) == 1:
        meta = {"text": scene.prompts[0], "duration": scene.seconds[0], "seed": scene.seed, "fps": fps}
    with atomic_folder(folder) as made:
        (made / _META).write_text(json.dumps(meta), encoding="utf-8")
        save(scene.constraints, made / _CONSTRAINTS, fps)
    return Path(folder)
