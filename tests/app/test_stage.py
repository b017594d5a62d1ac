"""Figures and the stage they stand on, with a scene that only remembers what was put into it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from moving_model import swinging

from motiongpt3 import HUMANML3D, Motion
from motiongpt3.app.stage import COLOURS, MAX_FIGURES, MannequinFigure, SkeletonFigure, Stage, quaternions


class Scene:
    """Takes what viser's scene takes: every node is its arguments, by name."""

    def __init__(self) -> None:
        self.nodes: dict[str, SimpleNamespace] = {}

    def __getattr__(self, _: str) -> Callable[..., SimpleNamespace]:
        def add(name: str, *arguments: Any, **options: Any) -> SimpleNamespace:
            bones = [SimpleNamespace() for _ in options.get("bone_positions", ())]
            node = SimpleNamespace(arguments=arguments, bones=bones, **options)
            node.remove = lambda: self.nodes.pop(name)
            self.nodes[name] = node
            return node

        return add


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def stage(scene: Scene) -> Stage:
    client: Any = SimpleNamespace(scene=scene, camera=SimpleNamespace(), atomic=nullcontext)
    return Stage(client)


def turned(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """A vector turned by a quaternion w, x, y, z, by the formula."""
    w, axis = quaternion[0], quaternion[1:]
    return np.asarray(vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector))


def test_quaternions_have_their_real_part_first() -> None:
    quarter = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # about y, z to x
    np.testing.assert_allclose(
        quaternions(np.stack([np.eye(3), quarter])), [[1, 0, 0, 0], [0.5**0.5, 0, 0.5**0.5, 0]], atol=1e-6
    )


def test_bones_of_a_skeleton_lead_from_joint_to_joint(scene: Scene) -> None:
    motion = Motion(swinging(30))
    figure = SkeletonFigure(scene, "a", motion, (1, 2, 3))  # type: ignore[arg-type]
    balls, bones = scene.nodes["a/joints"], scene.nodes["a/bones"]
    for frame in (0, 7, 29):
        figure.show(frame)
        np.testing.assert_array_equal(balls.batched_positions, motion.joints[frame])
        for number, parent in enumerate(HUMANML3D.parents[1:]):
            along = turned(bones.batched_wxyzs[number], bones.batched_scales[number] * [0, 0, 1])
            np.testing.assert_allclose(bones.batched_positions[number], motion.joints[frame, parent], atol=1e-6)
            np.testing.assert_allclose(
                motion.joints[frame, parent] + along, motion.joints[frame, number + 1], atol=1e-3
            )
    figure.visible(False)
    assert (balls.visible, bones.visible) == (False, False)


def test_a_mannequin_s_bones_are_where_the_joints_are(scene: Scene) -> None:
    motion = Motion(swinging(30))
    figure = MannequinFigure(scene, "a", motion, (1, 2, 3))  # type: ignore[arg-type]
    node = scene.nodes["a"]
    assert node.skin_weights.shape == (len(node.arguments[0]), len(node.bones))
    np.testing.assert_allclose(node.skin_weights.sum(1), 1, atol=1e-5)
    for frame in (0, 10):
        figure.show(frame)
        places = np.array([bone.position for bone in node.bones])
        nearest = np.linalg.norm(places[:, None] - motion.joints[frame], axis=-1).min(1)
        assert nearest.max() < 1e-3
        np.testing.assert_allclose([np.linalg.norm(bone.wxyz) for bone in node.bones], 1, atol=1e-5)


def test_figures_stand_side_by_side_and_one_is_picked(stage: Stage, scene: Scene) -> None:
    stage.look = "skeleton"
    stage.show([Motion(swinging(20))] * (MAX_FIGURES + 1))
    assert len(stage.motions) == MAX_FIGURES
    assert [scene.nodes[f"/world/place{n}"].position[0] for n in range(4)] == pytest.approx([-2.25, -0.75, 0.75, 2.25])
    stage.pick(2)
    colours = [scene.nodes[f"/world/place{n}/skeleton/joints"].batched_colors for n in range(4)]
    assert colours[2] == COLOURS[2]
    assert len(set(colours)) == 2, "the others are pale"
    assert [scene.nodes[f"/world/place{n}/label"].arguments for n in range(4)] == [("1",), ("2",), ("3 ✓",), ("4",)]
    stage.show([Motion(swinging(20))])
    assert "/world/place0/label" not in scene.nodes, "one alone needs no number"
    assert scene.nodes["/world/place2/skeleton/joints"].visible is False


def test_the_world_moves_so_that_the_picked_one_stays(stage: Stage, scene: Scene) -> None:
    """They step 2 cm a frame to the side; whoever has ended stands still."""
    stage.look = "skeleton"
    stage.show([Motion(swinging(61)), Motion(swinging(21))])
    stage.at(1.5)
    assert scene.nodes["/world"].position == pytest.approx([-0.6, 0, 0], abs=1e-6)
    balls = scene.nodes["/world/place1/skeleton/joints"].batched_positions
    np.testing.assert_array_equal(balls, stage.motions[1].joints[20])
    stage.follow = False
    stage.at(1.5)
    assert scene.nodes["/world"].position.tolist() == [0, 0, 0]


def test_trails_are_the_ways_of_hands_feet_and_pelvis(stage: Stage, scene: Scene) -> None:
    motion = Motion(swinging(20))
    stage.trails = True
    stage.show([motion])
    trails = {name.rpartition("trail_")[2]: node for name, node in scene.nodes.items() if "trail_" in name}
    assert set(trails) == {"pelvis", "l_wrist", "r_wrist", "l_foot", "r_foot"}
    lines = trails["l_wrist"].arguments[0]
    np.testing.assert_array_equal(lines[:, 0], motion.joints[:-1, HUMANML3D.index("l_wrist")])
    np.testing.assert_array_equal(lines[1:, 0], lines[:-1, 1])
    assert set(trails["pelvis"].arguments[0][..., 1].ravel().tolist()) == {np.float32(0.012)}, "on the floor"


def test_more_frames_than_are_drawn_are_left_out(stage: Stage, scene: Scene) -> None:
    stage.look = "skeleton"
    stage.show([Motion(swinging(120), 120)])
    stage.at(0.5)
    np.testing.assert_allclose(
        scene.nodes["/world/place0/skeleton/joints"].batched_positions, stage.motions[0].joints[60], atol=1e-3
    )
