"""A person in the scene of a browser: the mannequin of the GLB files, or balls and bones."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import roma
import torch
import trimesh
import viser
from numpy.typing import NDArray

from motiongpt3.formats.mannequin import mannequin, rest_places
from motiongpt3.formats.rig import NODES
from motiongpt3.formats.skin import worlds
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.tpose import fit

Look = Literal["mannequin", "skeleton"]
Colour = tuple[int, int, int]


class Figure(Protocol):
    """Somebody who plays a motion."""

    def show(self, frame: int) -> None:
        """Take the pose of a frame."""

    def visible(self, shown: bool) -> None:
        """Be there or not."""


def add_figure(scene: viser.SceneApi, name: str, motion: Motion, look: Look, colour: Colour) -> Figure:
    """Put a figure into the scene, in its first pose, instead of the one of that name."""
    return (Mannequin if look == "mannequin" else Skeleton)(scene, name, motion, colour)


class Mannequin:
    """A skinned mesh whose bones are moved."""

    def __init__(self, scene: viser.SceneApi, name: str, motion: Motion, colour: Colour) -> None:
        fitted = fit(motion)
        rest = rest_places(fitted.rest)
        mesh = mannequin(rest)
        weights = np.zeros((len(mesh.positions), len(NODES)), dtype=np.float32)
        for slot in range(4):
            np.add.at(weights, (np.arange(len(mesh.nodes)), mesh.nodes[:, slot]), mesh.weights[:, slot])
        used = np.flatnonzero(weights.any(0))
        turns, places = worlds(fitted)
        self._turns = quaternions(turns[:, used])
        self._places = places[:, used].astype(np.float32)
        self._mesh = scene.add_mesh_skinned(
            name,
            mesh.positions,
            mesh.triangles,
            bone_wxyzs=np.tile([1.0, 0.0, 0.0, 0.0], (len(used), 1)),
            bone_positions=rest[[NODES[node].joint for node in used]],
            skin_weights=weights[:, used],
            color=colour,
        )
        self.show(0)

    def show(self, frame: int) -> None:
        for bone, turn, place in zip(self._mesh.bones, self._turns[frame], self._places[frame], strict=True):
            bone.wxyz, bone.position = turn, place

    def visible(self, shown: bool) -> None:
        self._mesh.visible = shown


class Skeleton:
    """A ball at every joint, and bones that get narrower towards the tips."""

    def __init__(self, scene: viser.SceneApi, name: str, motion: Motion, colour: Colour) -> None:
        parents = np.array(motion.skeleton.parents)
        joints = motion.joints.astype(np.float64)
        bones = joints[:, 1:] - joints[:, parents[1:]]
        lengths = np.linalg.norm(bones, axis=-1).mean(0)
        self._joints = motion.joints
        self._starts = motion.joints[:, parents[1:]]
        self._turns = quaternions(_towards(bones))
        ball = trimesh.creation.icosphere(subdivisions=2, radius=0.032)
        self._balls = scene.add_batched_meshes_simple(
            f"{name}/joints",
            ball.vertices,
            ball.faces,
            batched_wxyzs=np.tile([1.0, 0.0, 0.0, 0.0], (len(parents), 1)),
            batched_positions=self._joints[0],
            batched_colors=colour,
            lod="off",
        )
        bone = trimesh.creation.cone(radius=0.026, height=1.0, sections=12)
        self._bones = scene.add_batched_meshes_simple(
            f"{name}/bones",
            bone.vertices,
            bone.faces,
            batched_wxyzs=self._turns[0],
            batched_positions=self._starts[0],
            batched_scales=np.stack([np.ones_like(lengths), np.ones_like(lengths), lengths], axis=-1),
            batched_colors=(225, 228, 232),
            lod="off",
        )

    def show(self, frame: int) -> None:
        self._balls.batched_positions = self._joints[frame]
        self._bones.batched_positions = self._starts[frame]
        self._bones.batched_wxyzs = self._turns[frame]

    def visible(self, shown: bool) -> None:
        self._balls.visible = self._bones.visible = shown


def quaternions(turns: NDArray[np.float64]) -> NDArray[np.float32]:
    """(..., 3, 3) rotations -> (..., 4) unit quaternions w, x, y, z."""
    found = roma.quat_xyzw_to_wxyz(roma.quat_normalize(roma.rotmat_to_unitquat(torch.from_numpy(turns))))
    return np.asarray(found.numpy(), dtype=np.float32)


def _towards(bones: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) -> (..., 3, 3) rotations that turn the z axis that way; any where there is no way."""
    length = np.linalg.norm(bones, axis=-1, keepdims=True)
    z = np.where(length > 1e-8, bones / np.maximum(length, 1e-8), [0.0, 0.0, 1.0])
    other = np.where(np.abs(z[..., :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    x = np.cross(other, z)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], axis=-1)
