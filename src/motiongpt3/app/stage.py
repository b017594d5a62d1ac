"""What a browser shows: a floor, the light, and one figure or several side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import viser
from numpy.typing import NDArray

from motiongpt3.app.figure import Colour, Figure, Look, add_figure
from motiongpt3.motion.average import averaged
from motiongpt3.motion.motion import Motion

COLOURS: tuple[Colour, ...] = ((88, 140, 212), (226, 148, 74), (98, 168, 116), (176, 122, 190))
"""Of the figures from left to right."""
_PALE: Colour = (196, 200, 206)
_APART = 1.5
"""Metres between figures side by side."""
_FOLLOW = 0.4
"""Seconds of the standard deviation over which the way is averaged that the view follows."""
_MOST_FPS = 30.0
"""Frames per second that are drawn of a motion with more."""
_TRAILS = (("pelvis", 0.012), ("l_wrist", 0.006), ("r_wrist", 0.006), ("l_foot", 0.006), ("r_foot", 0.006))
"""Joints that leave a trail, and its thickness in metres; that of the pelvis is on the floor."""


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
        self._drawn: list[Motion] = []
        self._client = client
        self._scene = client.scene
        self._figures: list[Figure] = []
        self._nodes: list[viser.SceneNodeHandle] = []
        self._ways: list[NDArray[np.float64]] = []
        self._world = self._scene.add_frame("/world", show_axes=False)
        self._scene.add_grid(
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
        """Show these instead of what is there, the first one picked, seen from the front."""
        self.motions = list(motions)
        self._drawn = [motion.resample(min(motion.fps, _MOST_FPS)) for motion in motions]
        self.picked = 0
        self.build()
        wide = _APART * (len(self.motions) - 1)
        away = 3.4 + 0.75 * wide
        self._client.camera.position = (0.22 * away, 1.35 + 0.1 * away, away)
        self._client.camera.look_at = (0.0, 0.85, 0.0)

    def build(self) -> None:
        """Make the figures anew."""
        with self._client.atomic():
            for node in self._nodes:
                node.remove()
            self._nodes, self._figures, self._ways = [], [], []
            for number, motion in enumerate(self._drawn):
                self._add(number, motion)

    def pick(self, number: int) -> None:
        """Choose one of the figures."""
        self.picked = number
        self.build()

    def at(self, time: float) -> None:
        """Show everybody at a time in seconds; who has ended stands still."""
        with self._client.atomic():
            for figure, motion in zip(self._figures, self._drawn, strict=True):
                figure.show(_frame(motion, time))
            way = np.zeros(3)
            if self.follow and self.motions:
                way = self._ways[self.picked][_frame(self._drawn[self.picked], time)]
            self._world.position = -way

    def _add(self, number: int, motion: Motion) -> None:
        shift = np.array([_APART * (number - (len(self.motions) - 1) / 2), 0, 0])
        pelvis = motion.joints[:, 0].astype(np.float64) * [1, 0, 1]
        start = shift - pelvis[0]
        self._ways.append(averaged(pelvis - pelvis[0], _FOLLOW * motion.fps))
        name = f"/world/figure{number}"
        node = self._scene.add_frame(name, show_axes=False, position=start)
        self._nodes.append(node)
        colour = COLOURS[number % len(COLOURS)] if number == self.picked else _PALE
        self._figures.append(add_figure(self._scene, f"{name}/body", motion, self.look, colour))
        if len(self.motions) > 1:
            label = f"{number + 1} ✓" if number == self.picked else f"{number + 1}"
            self._scene.add_label(f"{name}/label", label, position=tuple(pelvis[0] + [0, 1.95, 0]))
        if self.trails and len(motion) > 1:
            for joint, thickness in _TRAILS:
                points = motion.joints[:, motion.skeleton.index(joint)].copy()
                if joint == "pelvis":
                    points[:, 1] = 0.012
                lines = np.stack([points[:-1], points[1:]], axis=1)
                self._scene.add_line_segments(f"{name}/trail_{joint}", lines, colour, thickness=thickness)


def _frame(motion: Motion, time: float) -> int:
    """The frame nearest to a time in seconds."""
    return min(max(round(time * motion.fps), 0), len(motion) - 1)
