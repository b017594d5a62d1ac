"""The skeleton of HumanML3D: a tree whose sides mirror each other."""

from __future__ import annotations

import numpy as np

from motiongpt3.motion.skeleton import HUMANML3D, nearest_above


def test_the_legs_of_the_usual_skeleton() -> None:
    assert HUMANML3D.legs == ((1, 4, 7, 10), (2, 5, 8, 11))


def test_parents_come_first_and_the_chains_reach_every_joint_once() -> None:
    assert all(parent < joint for joint, parent in enumerate(HUMANML3D.parents))
    steps = [step for chain in HUMANML3D.chains for step in zip(chain[1:], chain[:-1], strict=True)]
    assert sorted(steps) == list(enumerate(HUMANML3D.parents))[1:]


def test_mirroring_swaps_the_names_sides_and_the_reference_pose() -> None:
    """The two sides are measured apart, so their bones differ, by 4 % at most."""
    order = HUMANML3D.mirror_permutation
    swap = {"l": "r", "r": "l"}
    assert [HUMANML3D.names[joint] for joint in order] == [
        swap[name[0]] + name[1:] if name[1] == "_" else name for name in HUMANML3D.names
    ]
    np.testing.assert_allclose(HUMANML3D.rest_offsets[order], HUMANML3D.rest_offsets * [-1, 1, 1], atol=0.01)
    assert HUMANML3D.bone_lengths[HUMANML3D.index("l_knee")] == np.float32(0.39362)


def test_the_nearest_joint_above_in_any_tree() -> None:
    parents = [-1, 0, 1, 2, 1]
    assert nearest_above(3, parents, {0, 1}) == 1
    assert nearest_above(3, parents, {0, 4}) == 0
    assert nearest_above(4, parents, {2, 4}) == -1, "a joint is not above itself"
