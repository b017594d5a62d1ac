"""GLB files of ours and characters of the tests, written, changed and looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from clips import invented
from glb_reader import Glb, parse
from rigs import rest_joints

from motiongpt3.characters.bone_names import OWN_NAMES
from motiongpt3.formats import save
from motiongpt3.formats.glb import load_character, write_character
from motiongpt3.formats.gltf import pack
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.retarget import RiggedMotion
from motiongpt3.motion.skeleton import HUMANML3D


def written(motion: Motion, folder: Path) -> Glb:
    """What `save` writes."""
    return parse(save(motion, folder / "clip.glb").read_bytes())


def joint_places(glb: Glb, seconds: np.ndarray | None) -> np.ndarray:
    """(S, 22, 3) positions of the 22 joints of a file of ours at these times, or at rest."""
    numbers = {node["name"]: number for number, node in enumerate(glb.json["nodes"])}
    return glb.worlds(seconds)[..., :3, 3][:, [numbers[OWN_NAMES[name]] for name in HUMANML3D.names]]


NUMBERED = {joint: f"bone_{number}" for number, joint in enumerate(HUMANML3D.names)}
"""Bones whose names say nothing."""
LIMBS = [(16, 18), (18, 20), (17, 19), (19, 21), (1, 4), (4, 7), (2, 5), (5, 8), (12, 15)]
"""Joints at both ends of the bones that point where the source's do."""


def retargeted(motion: Motion, path: Path) -> tuple[RiggedMotion, Glb]:
    """A motion on the character of a file, and what a reader of the tests' own finds in the result."""
    character = load_character(path)
    played = write_character(motion, character, path.with_name("out.glb"))
    return played, parse(path.with_name("out.glb").read_bytes())


def played_joints(glb: Glb, names: dict[str, str]) -> np.ndarray:
    """(T, 22, 3) of the file, read by a reader of the tests' own."""
    listed = [node.get("name", "") for node in glb.json["nodes"]]
    return rest_joints(glb.worlds(glb.times)[..., :3, 3], listed, names)


def angles(one: np.ndarray, other: np.ndarray, bones: list[tuple[int, int]]) -> np.ndarray:
    """(T, B) degrees between bones of two figures."""
    a, b = (np.stack([joints[:, j] - joints[:, i] for i, j in bones], axis=1) for joints in (one, other))
    cosine = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


Change = Callable[[dict[str, Any]], object]


def changed(folder: Path, change: Change, motion: Motion | None = None) -> Path:
    """A file of ours whose JSON was changed."""
    glb = parse(save(motion or invented(1, 10), folder / "own.glb").read_bytes())
    change(glb.json)
    path = folder / "changed.glb"
    path.write_bytes(pack(glb.json, glb.binary))
    return path
