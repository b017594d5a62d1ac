"""What a browser shows: a floor, the light, and one figure or several side by side.

A figure is the mannequin of the GLB files, or a skeleton of balls and bones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import roma
import torch
import trimesh
import viser
from numpy.typing import NDArray

from motiongpt3.characters.mannequin import NODES, mannequin, rest_places, rig_pose
from motiongpt3.motion.kinematics import fit_t_pose
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.signals import averaged, gaussian

Look = Literal["mannequin", "skeleton"]
Colour = tuple[int, int, int]


class StageFigure(Protocol):
    """Somebody who plays a motion."""

    def show(self, frame: int) -> None:
        """Take the pose of a frame."""

    def visible(self, shown: bool) -> None:
        """Be there or not."""


def add_figure(scene: viser.SceneApi, name: str, motion: Motion, look: Look, colour: Colour) -> StageFigure:
    """Put a figure into the scene, in its first pose, instead of the one of that name."""
    return (MannequinFigure if look == "mannequin" else SkeletonFigure)(scene, name, motion, colour)


class MannequinFigure:
    """A skinned mesh whose bones are moved."""

    def __init__(self, scene: viser.SceneApi, name: str, motion: Motion, colour: Colour) -> None:
        fitted = fit_t_pose(motion)
        rest = rest_places(fitted.rest)
        mesh = mannequin(rest)
        weights = mesh.node_weights()
        used = np.flatnonzero(weights.any(0))
        turns, places = rig_pose(fitted)
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


class SkeletonFigure:
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


COLOURS: tuple[Colour, ...] = ((88, 140, 212), (226, 148, 74), (98, 168, 116), (176, 122, 190))
"""Of the figures from left to right."""
MAX_FIGURES = len(COLOURS)
"""Figures side by side."""
_PALE: Colour = (196, 200, 206)
_APART = 1.5
"""Metres between figures side by side."""
_FOLLOW = 0.4
"""Seconds of the standard deviation over which the way is averaged that the view follows."""
_MAX_FPS = 30.0
"""Frames per second that are drawn of a motion with more."""
_TRAILS = (("pelvis", 0.012), ("l_wrist", 0.006), ("r_wrist", 0.006), ("l_foot", 0.006), ("r_foot", 0.006))
"""Joints that leave a trail, and its thickness in metres; that of the pelvis is on the floor."""


class _Place:
    """Where a figure stands, on its own in the world.

    A figure that goes is hidden, not removed: viser's page breaks when a skinned mesh is taken out of it.
    """

    def __init__(self, scene: viser.SceneApi, number: int) -> None:
        self.motion: Motion | None = None
        self.way = np.zeros((1, 3))
        self._scene, self._number = scene, number
        self._node = scene.add_frame(f"/world/place{number}", show_axes=False)
        self._figures: dict[Look, StageFigure] = {}
        self._look: Look = "mannequin"
        self._label: viser.LabelHandle | None = None
        self._extras: list[viser.SceneNodeHandle] = []

    def clear(self) -> None:
        """Nobody is here."""
        self.motion = None
        for figure in self._figures.values():
            figure.visible(False)
        for extra in self._extras:
            extra.remove()
        self._extras, self._label = [], None

    def put(self, motion: Motion, x: float, look: Look, colour: Colour, label: str, trails: bool) -> None:
        """Somebody is here, who starts `x` metres to the side."""
        self.clear()
        self.motion, self._look = motion, look
        pelvis = motion.joints[:, 0].astype(np.float64) * [1, 0, 1]
        self._node.position = np.array([x, 0, 0]) - pelvis[0]
        self.way = averaged(pelvis - pelvis[0], gaussian(_FOLLOW * motion.fps))
        name = f"/world/place{self._number}"
        self._figures[look] = add_figure(self._scene, f"{name}/{look}", motion, look, colour)
        if label:
            self._label = self._scene.add_label(f"{name}/label", label, anchor="bottom-center")
            self._extras.append(self._label)
        if trails and len(motion) > 1:
            for joint, thickness in _TRAILS:
                points = motion.joints[:, motion.skeleton.index(joint)].copy()
                if joint == "pelvis":
                    points[:, 1] = 0.012
                lines = np.stack([points[:-1], points[1:]], axis=1)
                trail = self._scene.add_line_segments(f"{name}/trail_{joint}", lines, colour, thickness=thickness)
                self._extras.append(trail)

    def at(self, time: float) -> NDArray[np.float64]:
        """Show the pose of a time in seconds; how far they have gone is returned, (3,) in metres."""
        if self.motion is None:
            return np.zeros(3)
        frame = min(max(round(time * self.motion.fps), 0), len(self.motion) - 1)
        self._figures[self._look].show(frame)
        if self._label is not None:
            joints = self.motion.joints[frame]
            self._label.position = (float(joints[0, 0]), float(joints[:, 1].max()) + 0.25, float(joints[0, 2]))
        return np.asarray(self.way[frame])


class Stage:
    """The scene of one browser. To follow someone, the world moves and the camera stays the watcher's.

    Attributes:
        look: what figures look like; as `trails`, it counts from the next `build`.
        trails: whether wrists, feet and pelvis leave a trail.
        follow: whether the picked figure stays in the middle.
        motions: who is there.
        picked: which of them was chosen.
    """

    def __init__(self, client: viser.ClientHandle) -> None:
        self.look: Look = "mannequin"
        self.trails = False
        self.follow = True
        self.motions: list[Motion] = []
        self.picked = 0
        self._client = client
        self._drawn: list[Motion] = []
        self._world = client.scene.add_frame("/world", show_axes=False)
        self._places = [_Place(client.scene, number) for number in range(MAX_FIGURES)]
        client.scene.add_grid(
            "/world/floor",
            plane="xz",
            infinite_grid=True,
            cell_size=0.5,
            section_size=1.0,
            cell_color=(214, 218, 224),
            section_color=(186, 192, 200),
            plane_color=(240, 242, 245),
            plane_opacity=1.0,
            shadow_opacity=0.35,
            fade_distance=25.0,
        )

    def show(self, motions: Sequence[Motion]) -> None:
        """Show these, `MAX_FIGURES` at most, instead of what is there: the first one picked, seen from the front."""
        self.motions = list(motions)[:MAX_FIGURES]
        self._drawn = [motion.resample(min(motion.fps, _MAX_FPS)) for motion in self.motions]
        self.picked = 0
        self.build()
        away = 3.4 + 2.2 * _APART * (len(self.motions) - 1) / 2
        side = 0.16 * away * (len(self.motions) > 1)  # the panel hides some of the right
        self._client.camera.position = (side + 0.22 * away, 1.35 + 0.1 * away, away)
        self._client.camera.look_at = (side, 0.85, 0.0)

    def build(self) -> None:
        """Make the figures anew."""
        with self._client.atomic():
            several = len(self._drawn) > 1
            for number, place in enumerate(self._places):
                if number >= len(self._drawn):
                    place.clear()
                    continue
                picked = number == self.picked
                colour = COLOURS[number] if picked else _PALE
                label = f"{number + 1}{' ✓' if picked else ''}" if several else ""
                x = _APART * (number - (len(self._drawn) - 1) / 2)
                place.put(self._drawn[number], x, self.look, colour, label, self.trails)

    def pick(self, number: int) -> None:
        """Choose one of the figures."""
        self.picked = number
        self.build()

    def at(self, time: float) -> None:
        """Show everybody at a time in seconds; who has ended stands still."""
        with self._client.atomic():
            ways = [place.at(time) for place in self._places]
            self._world.position = -ways[self.picked] if self.follow else np.zeros(3)
