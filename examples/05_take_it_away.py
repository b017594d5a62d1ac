"""Finish a motion and take it to other programs: a looping GLB, a Mixamo-like BVH, poses as in AMASS, a character.

    python examples/05_take_it_away.py [FILE] [HERO]

FILE is a motion file; without one, a standing figure shifts its weight. HERO is a rigged .glb or .vrm; without
one, our own mannequin serves.
"""

import sys

import numpy as np

from motiongpt3 import HUMANML3D, Motion
from motiongpt3.formats import save
from motiongpt3.formats.glb import load_character, write_character
from motiongpt3.motion.postprocess import postprocess, report


def shifting(frames: int = 80) -> Motion:
    """A person in the rest pose of the skeleton who shifts the weight from one foot to the other."""
    pose = np.zeros((len(HUMANML3D), 3))
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[:, 1] -= pose[:, 1].min()
    sway = 0.04 * np.sin(np.linspace(0, 4 * np.pi, frames))[:, None] * pose[:, 1] / pose[0, 1]
    return Motion(pose + sway[..., None] * [1, 0, 0], caption="a person shifts the weight")


raw = Motion.load(sys.argv[1]) if sys.argv[1:] else shifting()
cycle = postprocess(raw, fix_feet=True, loop=True, in_place=True, fps=30)
for name, before in report(raw).items():
    print(f"{name}: {before:.3f} -> {report(cycle)[name]:.3f}")

save(cycle, "cycle.glb")  # for three.js, Blender, Godot, Unity
save(cycle, "cycle.bvh", bvh_dialect="mixamo")
save(cycle, "cycle.smpl.npz")
save(cycle, "cycle.png", body="mannequin")

hero = load_character(sys.argv[2] if sys.argv[2:] else "cycle.glb")
played = write_character(cycle, hero, "hero.glb")
print(f"{len(hero.bones.nodes)} joints found by {hero.bones.how}, directions {played.error:.1f} degrees off on average")
