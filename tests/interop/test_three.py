"""three.js sees in our GLB files the joints where they were, and a mannequin that goes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import invented
from npm import in_node

from motiongpt3.characters.bone_names import OWN_NAMES
from motiongpt3.formats import save
from motiongpt3.formats.glb import load_character, write_character
from motiongpt3.motion.skeleton import HUMANML3D

LOOK = """
import fs from 'node:fs';
import { pathToFileURL } from 'node:url';
const [folder, file, fps, frames] = process.argv.slice(1);
const load = name => import(pathToFileURL(folder + '/' + name));
const THREE = await load('build/three.module.js');
const { GLTFLoader } = await load('examples/jsm/loaders/GLTFLoader.js');
const bytes = fs.readFileSync(file);
const gltf = await new GLTFLoader().parseAsync(new Uint8Array(bytes).buffer, '');
const skins = [], bones = [];
gltf.scene.traverse(node => { if (node.isSkinnedMesh) skins.push(node); if (node.isBone) bones.push(node); });
const mixer = new THREE.AnimationMixer(gltf.scene);
mixer.clipAction(gltf.animations[0]).setLoop(THREE.LoopOnce).play().clampWhenFinished = true;
const seen = [], boxes = [], at = new THREE.Vector3();
for (let frame = 0; frame < Number(frames); frame++) {
  mixer.setTime(frame / Number(fps));
  gltf.scene.updateMatrixWorld(true);
  seen.push(Object.fromEntries(bones.map(bone => [bone.name, bone.getWorldPosition(at).toArray()])));
  skins.forEach(skin => skin.computeBoundingBox());
  const box = skins[0].boundingBox.clone().applyMatrix4(skins[0].matrixWorld);
  boxes.push([box.min.toArray(), box.max.toArray()]);
}
console.log(JSON.stringify({ skins: skins.length, animations: gltf.animations.length, seen, boxes }));
"""


def look(file: Path, fps: float, frames: int) -> dict[str, Any]:
    """What three.js finds in each frame of a file."""
    return dict(in_node(LOOK, "three", "THREE_JS", file, fps, frames, kind="module"))


@pytest.mark.parametrize("fps", [20, 60])
def test_joints_and_mannequin(tmp_path: Path, fps: int) -> None:
    motion = invented(3, 30, fps, 0.3)
    found = look(save(motion, tmp_path / "a.glb"), fps, 30)
    assert (found["skins"], found["animations"]) == (1, 1)
    for joint, name in enumerate(HUMANML3D.names):
        seen = np.array([frame[OWN_NAMES[name]] for frame in found["seen"]])
        np.testing.assert_allclose(seen, motion.joints[:, joint], atol=2e-3, err_msg=name)
    low, high = np.array(found["boxes"]).transpose(1, 0, 2)
    assert (low < motion.joints.min(axis=1) + 0.02).all()
    assert (high > motion.joints.max(axis=1) - 0.02).all(), "the mannequin is around its joints"
    assert (high - low < np.ptp(motion.joints, axis=1) + 0.6).all()


def test_a_retargeted_character_moves_as_the_motion_does(tmp_path: Path) -> None:
    motion = invented(5, 20, 20, 0.2)
    rig = load_character(save(invented(1, 2), tmp_path / "rig.glb"))
    write_character(motion, rig, tmp_path / "hero.glb")
    found = look(tmp_path / "hero.glb", 20, 20)
    hips = np.array([frame["Hips"] for frame in found["seen"]])
    moved, wanted = (np.linalg.norm(np.diff(way, axis=0), axis=-1).sum() for way in (hips, motion.joints[:, 0]))
    assert 0.8 * wanted < moved < 1.25 * wanted
