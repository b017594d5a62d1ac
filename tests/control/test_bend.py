"""Bending a walk onto a path: places, facing, steps and bones."""

from __future__ import annotations

import numpy as np
import pytest
from people import person

from motiongpt3.control import constraints as c
from motiongpt3.control.bend import Anchors, anchors, bend, mismatch, smooth_root
from motiongpt3.motion.poses import bone_lengths, heading

WALK = person(80, speed=1.2)


def path(xz: np.ndarray, frames: list[int], **more: object) -> Anchors:
    return anchors(c.resolve([c.RootPath(frames=frames, xz=xz, **more)], 80, 20).constraints)


def test_without_anchors_nothing_changes() -> None:
    np.testing.assert_array_equal(bend(WALK, anchors([]), 20).joints, WALK)


def test_one_anchor_moves_and_turns_the_whole() -> None:
    bent = bend(WALK, path([[3, 1]], [40], headings=[np.pi / 2]), 20)
    np.testing.assert_allclose(bent.joints[40, 0, [0, 2]], [3, 1], atol=1e-9)
    np.testing.assert_allclose(heading(bent.joints), heading(WALK) + np.pi / 2, atol=1e-6)
    between = np.linalg.norm(bent.joints[79] - bent.joints[0], axis=-1)
    np.testing.assert_allclose(between, np.linalg.norm(WALK[79].astype(float) - WALK[0], axis=-1), atol=1e-6)


def test_a_circle_is_walked_along_facing_its_direction() -> None:
    angle = np.linspace(0, 3, 80)
    xz = np.stack([1.5 - 1.5 * np.cos(angle), 1.5 * np.sin(angle)], axis=-1)
    bent = bend(WALK, path(xz, list(range(80))), 20).joints
    np.testing.assert_allclose(bent[:, 0, [0, 2]], xz, atol=1e-9)
    away = (heading(bent) - angle + np.pi) % (2 * np.pi) - np.pi
    assert np.degrees(np.abs(away)).max() < 8
    np.testing.assert_allclose(bone_lengths(bent), bone_lengths(WALK.astype(float)), atol=1e-6)


def test_headings_that_are_given_are_faced() -> None:
    bent = bend(WALK, path([[0, 0], [0, -4]], [0, 79], headings=[0, 0]), 20).joints
    assert np.abs(heading(bent)).max() < 0.15  # backwards


def test_steps_follow_the_way() -> None:
    """A path that stands for a second and then goes: so do the feet."""
    way = np.clip(np.arange(80) / 20 - 1, 0, None)
    bent = bend(WALK, path(np.stack([0 * way, way], axis=-1), list(range(80))), 20)
    assert bent.at[20] < 10
    assert bent.at[-1] == pytest.approx(79)


def test_a_walk_that_suits_a_path_is_told_from_one_that_does_not() -> None:
    to = path([[0, 0], [0, 1.2 * 79 / 20]], [0, 79])
    assert mismatch(WALK, to, 20) < 0.1
    assert mismatch(person(80, speed=0.4), to, 20) > 0.4
    assert mismatch(WALK, path([[0, 0]], [0]), 20) == 0


def test_the_smoothed_way_has_no_sway() -> None:
    time = np.arange(200) / 20
    way = np.stack([0.03 * np.sin(2 * np.pi * time), 1.2 * time], axis=-1)
    smooth = smooth_root(way, 20)
    assert np.abs(smooth[20:-20, 0]).max() < 0.013
    np.testing.assert_allclose(smooth[[0, -1]], way[[0, -1]], atol=1e-12)
    np.testing.assert_allclose(smooth[:, 1], way[:, 1], atol=1e-9)


def test_a_lunge_is_no_walk_to_turn_with() -> None:
    """Half a metre forward and back again: nobody turns round for the way back."""
    lunge = person(80)
    lunge[..., 2] += (0.25 * (1 - np.cos(np.arange(80) / 79 * 2 * np.pi)))[:, None]
    bent = bend(lunge, path(lunge[::8, 0][:, [0, 2]], list(range(0, 80, 8))), 20).joints
    np.testing.assert_allclose(heading(bent), heading(lunge), atol=0.05)


def test_outside_its_places_the_walk_goes_on_as_it_did() -> None:
    """Two places a frame apart say nothing of where to go for the rest of the time."""
    bent = bend(WALK, path([[0, 2.4], [0.2, 2.45]], [40, 41]), 20).joints
    assert np.linalg.norm(bent[79, 0] - bent[41, 0]) < 3.2
    assert np.linalg.norm(bent[0, 0] - bent[40, 0]) < 3.2
