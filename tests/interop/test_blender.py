"""Blender's importers see in our GLB and BVH files what we put there, by the settings that the docs name."""

from __future__ import annotations

from pathlib import Path

from blender import in_blender, needs_blender
from clips import invented

from motiongpt3.formats import save


@needs_blender
def test_glb(tmp_path: Path) -> None:
    motion = invented(3, 30, 30, 0.3)
    seen = in_blender(save(motion, tmp_path / "a.glb"), "import_scene.gltf", tmp_path, fps=30)
    assert seen.meshes == 1
    seen.compare(motion)


@needs_blender
def test_bvh(tmp_path: Path) -> None:
    motion = invented(4, 30, 20, 0.3)
    options = "global_scale=0.01, axis_forward='-Z', axis_up='Y', update_scene_fps=True"
    seen = in_blender(save(motion, tmp_path / "a.bvh"), "import_anim.bvh", tmp_path, options)
    assert seen.fps == 20
    seen.compare(motion)
