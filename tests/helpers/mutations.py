"""Damaged files for the fuzzer: whole files of every kind that is read, and seeded ways to spoil one."""

from __future__ import annotations

import json
import random
import re
import struct
from pathlib import Path

import numpy as np
from people import person

from motiongpt3 import constraints
from motiongpt3.formats import save
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D

NUMBERS = ("nan", "inf", "-1", "0", "1e308", "1e999", "9" * 400, "-0.0", "1e-320", "4294967296", "true", '"x"', "[]")
"""What a number is replaced by."""


def whole_files(folder: Path) -> list[Path]:
    """A small whole file of each kind."""
    motion = Motion(person(12, speed=1.0), fps=30, caption="a person walks")
    names = ("a.npz", "a.smpl.npz", "a.npy", "a.bvh", "a.glb")
    files = [save(motion, folder / name) for name in names]
    files.append(save(motion, folder / "mixamo.bvh", bvh_dialect="mixamo"))
    np.savez(folder / "kimodo.npz", posed_joints=motion.joints, fps=30)
    np.save(folder / "batch.npy", np.stack([motion.joints] * 2))
    bones = folder / "bones.yaml"
    bones.write_text("".join(f"{joint}: bone_{joint}\n" for joint in HUMANML3D.names))
    wishes = folder / "wishes.json"
    constraints.save([constraints.RootPath(frames=[0, 10], xz=[[0, 0], [0, 1]], smooth=True)], wishes)
    timeline = folder / "scene.txt"
    timeline.write_text("walk # 0 # 2 # legs\nwave # 1 # 2 # right arm\n")
    return [*files, folder / "kimodo.npz", folder / "batch.npy", bones, wishes, timeline]


def spoilt(data: bytes, suffix: str, seed: int) -> bytes:
    """A file's bytes with one to four things wrong; the same seed gives the same bytes."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        ways = [_bits, _cut, _repeated, _moved, _zeroed]
        if suffix in (".bvh", ".yaml", ".json", ".txt", ".amc", ".asf"):
            ways += [_number] * 4 + [_line] * 2
        if suffix == ".glb":
            ways += [_glb_number] * 4
        data = chance.choice(ways)(data, chance)
    return data


def _place(data: bytes, chance: random.Random) -> int:
    return chance.randrange(len(data)) if data else 0


def _bits(data: bytes, chance: random.Random) -> bytes:
    spoiled = bytearray(data)
    for _ in range(chance.randint(1, 16)):
        if spoiled:
            spoiled[_place(data, chance)] = chance.randrange(256)
    return bytes(spoiled)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: _place(data, chance)]


def _repeated(data: bytes, chance: random.Random) -> bytes:
    start = _place(data, chance)
    return data[:start] + data[start : start + chance.randint(1, 200)] * chance.randint(2, 50) + data[start:]


def _moved(data: bytes, chance: random.Random) -> bytes:
    start = _place(data, chance)
    return data[start:] + data[:start] if chance.random() < 0.2 else data[:start] + data[start + chance.randint(1, 9) :]


def _zeroed(data: bytes, chance: random.Random) -> bytes:
    start, size = _place(data, chance), chance.choice((4, 8, 64))
    return data[:start] + chance.choice((b"\0", b"\xff", b"\x7f")) * size + data[start + size :]


def _number(data: bytes, chance: random.Random) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?", data))
    if not found:
        return data
    one = chance.choice(found[:200] if chance.random() < 0.5 else found)
    return data[: one.start()] + chance.choice(NUMBERS).encode() + data[one.end() :]


def _line(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    lines[at : at + 1] = chance.choice(([], [lines[at]] * 3, [lines[at], chance.choice(lines)], [lines[at].upper()]))
    return b"\n".join(lines)


def _glb_number(data: bytes, chance: random.Random) -> bytes:
    """Spoil a number in the JSON of a GLB and keep the container whole."""
    if len(data) < 20:
        return data
    size = struct.unpack_from("<I", data, 12)[0]
    text = _number(data[20 : 20 + size], chance)
    if chance.random() < 0.3:  # a key goes
        try:
            document = json.loads(text)
            document.pop(chance.choice(list(document)))
            text = json.dumps(document).encode()
        except (ValueError, AttributeError, IndexError):
            pass
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    return data[:8] + struct.pack("<II", 20 + len(text) + len(rest), len(text)) + data[16:20] + text + rest
