"""FBX by Blender: its format is nobody's but Autodesk's, and Blender writes what engines take."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.serialization import atomic_path

VARIABLE = "MOTIONGPT3_BLENDER"
SECONDS = 300
"""Blender is stopped after this time."""
SCRIPT = (
    "import bpy, numpy, sys; fps, source, target = sys.argv[-3:]; vars(numpy).setdefault('bool', bool); "
    "bpy.ops.wm.read_factory_settings(use_empty=True); render = bpy.context.scene.render; "
    "render.fps = max(1, round(float(fps))); render.fps_base = render.fps / float(fps); "
    "bpy.ops.import_scene.gltf(filepath=source); "
    "bpy.ops.export_scene.fbx(filepath=target, add_leaf_bones=False, bake_anim_simplify_factor=0)"
)
"""What Blender runs; the last words of its command line: frames per second, the GLB to read, the FBX to write.

Blender bakes on its own frames, 24 a second unless told. Blender 3.4's glTF importer wants `numpy.bool`, which the
numpy beside it in Debian 12 no longer has.
"""
_PLACES = ("/Applications/Blender.app/Contents/MacOS/Blender", "/snap/bin/blender")


def find_blender() -> str:
    """The program: what the variable MOTIONGPT3_BLENDER names, or `blender` on the PATH, or where systems put it.

    Raises:
        MotionGPT3Error: there is none; the message says how to get one.
    """
    named = os.environ.get(VARIABLE)
    for candidate in [named] if named else ["blender", *_PLACES]:
        found = shutil.which(candidate)
        if found:
            return found
    if named:
        raise MotionGPT3Error(f"{VARIABLE} names {named}, which is no program")
    raise MotionGPT3Error(
        "FBX files are written by Blender, which is not found: install it from https://www.blender.org/download "
        f"(or: apt install blender python3-numpy, snap install blender --classic), or name its program in {VARIABLE}"
    )


def glb_to_fbx(glb: Path, fbx: Path, fps: float, blender: str) -> None:
    """Turn a GLB file into an FBX file of the same frames per second with a Blender that runs without a window.

    Raises:
        MotionGPT3Error: Blender fails or takes too long, or the file cannot be written.
    """
    with atomic_path(fbx) as temporary:
        temporary.unlink()  # Whether Blender has written it is to be seen.
        command = [blender, "--background", "--factory-startup", "--python-exit-code", "1", "--python-expr", SCRIPT]
        try:
            done = subprocess.run(
                [*command, "--", str(fps), str(glb.resolve()), str(temporary.resolve())],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MotionGPT3Error(f"Blender did not finish within {SECONDS} s") from None
        except OSError as error:
            raise MotionGPT3Error(f"cannot run Blender ({blender}): {error.strerror or error}") from None
        if done.returncode or not temporary.is_file():
            said = [line.strip() for line in (done.stderr + done.stdout).splitlines()]
            errors = [line for line in said if "Error" in line and "script failed" not in line]
            raise MotionGPT3Error(f"Blender failed: {errors[-1][:200] if errors else f'exit code {done.returncode}'}")
