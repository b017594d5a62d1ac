"""What Blender sees in a file, for tests; they are skipped where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from motiongpt3 import Motion

needs_blender = pytest.mark.skipif(shutil.which("blender") is None, reason="no blender on the PATH")
NAMES = {"Hips": 0, "LeftFoot": 7, "RightToeBase": 11, "Head": 15, "LeftForeArm": 18, "RightHand": 21}
LOOK = """
import bpy, builtins, json, numpy, sys
# Debian 12 has a newer numpy and Python than its Blender 3.4 wants.
vars(numpy).setdefault("bool", bool)
plain = open
builtins.open = lambda name, mode="r", *rest, **more: plain(name, mode.replace("U", ""), *rest, **more)
fps, source, target = sys.argv[-3:]
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.fps = int(fps)
bpy.ops.OPERATOR(filepath=source, OPTIONS)
(rig,) = [thing for thing in bpy.data.objects if thing.type == "ARMATURE"]
first, last = (int(round(frame)) for frame in rig.animation_data.action.frame_range)
frames = []
for frame in range(first, last + 1):
    scene.frame_set(frame)
    frames.append({bone.name: list((rig.matrix_world @ bone.matrix).translation) for bone in rig.pose.bones})
found = {"fps": scene.render.fps / scene.render.fps_base, "frames": frames}
found["meshes"] = sum(thing.type == "MESH" and bool(thing.vertex_groups) for thing in bpy.data.objects)
json.dump(found, open(target, "w"))
"""


@dataclass(frozen=True)
class Seen:
    """A file as Blender sees it: its frames per second, skinned meshes, and joints (T, 3) by name in metres, y up."""

    fps: float
    meshes: int
    joints: dict[str, np.ndarray]

    def compare(self, motion: Motion, atol: float = 2e-3) -> None:
        """Assert that each frame is there and some joints lie within `atol` metres of the motion's."""
        for name, joint in NAMES.items():
            found = self.joints[name]
            assert len(found) == len(motion)
            np.testing.assert_allclose(found, motion.joints[:, joint], atol=atol, err_msg=name)


def in_blender(file: Path, operator: str, folder: Path, options: str = "", fps: int = 24) -> Seen:
    """Have Blender import a file by `bpy.ops.OPERATOR(OPTIONS)` into a scene of `fps`, and look at its armature."""
    script, target = folder / "look.py", folder / "seen.json"
    script.write_text(LOOK.replace("OPERATOR", operator).replace("OPTIONS", options))
    command = ["blender", "--background", "--factory-startup", "--python-exit-code", "1", "--python", str(script)]
    subprocess.run([*command, "--", str(fps), str(file), str(target)], check=True, capture_output=True, timeout=3000)
    found = json.loads(target.read_text())
    points = {name: np.array([frame[name] for frame in found["frames"]]) for name in found["frames"][0]}
    joints = {name: np.stack([at[:, 0], at[:, 2], -at[:, 1]], axis=1) for name, at in points.items()}  # z is up there
    return Seen(found["fps"], found["meshes"], joints)
