"""Read a motion file, change it, measure it, write it in another format. No model is needed.

    python examples/03_read_and_change.py [FILE]

FILE is a BVH, AMC, npz or npy file; without one, a standing pose is made to turn on the spot.
"""

import sys

import numpy as np

from motiongpt3 import HUMANML3D, Motion
from motiongpt3.motion.quality import measure


def turning(frames: int = 80) -> Motion:
    """A person in the rest pose of the skeleton who turns around once."""
    pose = np.zeros((len(HUMANML3D), 3))
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[:, 1] -= pose[:, 1].min()
    angle = np.linspace(0, 2 * np.pi, frames)[:, None]
    x = pose[:, 0] * np.cos(angle) + pose[:, 2] * np.sin(angle)
    z = pose[:, 2] * np.cos(angle) - pose[:, 0] * np.sin(angle)
    return Motion(np.stack([x, np.broadcast_to(pose[:, 1], x.shape), z], axis=-1), caption="a person turns left")


motion = Motion.load(sys.argv[1]) if sys.argv[1:] else turning()
print(motion)
changed = motion[: len(motion) // 2].mirror().resample(30)
print(changed)
print(measure(changed))
changed.save("changed.bvh")
