"""The mannequin of the GLB files: a closed skin that goes with its joints and stands on its soles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import invented, recording
from glb_files import joint_places, written

from motiongpt3.motion.skeleton import HUMANML3D


@pytest.mark.slow
def test_the_skin_is_closed_and_its_outside_is_outside(tmp_path: Path) -> None:
    glb = written(invented(), tmp_path)
    rest, triangles = glb.skinned(glb.worlds(None))[0], glb.triangles
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges), "each edge once in each direction"
    assert all((b, a) in directed for a, b in directed)
    attributes = glb.json["meshes"][0]["primitives"][0]["attributes"]
    np.testing.assert_allclose(rest, glb.array(attributes["POSITION"]), atol=1e-6)
    a, b, c = (rest[triangles[:, corner]] for corner in range(3))
    outwards = np.cross(b - a, c - a)
    normals = glb.array(attributes["NORMAL"])[triangles].sum(1)
    assert ((outwards * normals).sum(-1) > 0).mean() > 0.999
    assert 0.05 < (a * np.cross(b, c)).sum() / 6 < 0.1, "cubic metres of a person"


def test_the_rest_pose_is_a_t_on_the_floor(tmp_path: Path) -> None:
    glb = written(invented(), tmp_path)
    rest = dict(zip(HUMANML3D.names, joint_places(glb, None)[0], strict=True))
    skin = glb.skinned(glb.worlds(None))[0]
    assert -0.01 < skin[:, 1].min() < 0.01
    assert 1.6 < skin[:, 1].max() < 1.9
    assert abs(skin[:, 0].max() + skin[:, 0].min()) < 0.05
    assert abs(rest["l_wrist"][1] - rest["l_shoulder"][1]) < 1e-6
    assert rest["l_wrist"][0] > 0.6 > -0.6 > rest["r_wrist"][0]
    assert rest["l_foot"][2] > rest["l_ankle"][2] + 0.05, "the toes point to +z"
    assert not any("rotation" in node for node in glb.json["nodes"])


@pytest.mark.slow
def test_each_joint_is_inside_the_skin_that_moves_with_it(mocap_dir: Path, tmp_path: Path) -> None:
    """The mean of the vertices near a joint at rest stays near it in motion, and no triangle is torn apart."""
    motion = recording(mocap_dir, "CMU_05_01")
    glb = written(motion, tmp_path)
    at = glb.times[::7]
    rest, moved = glb.skinned(glb.worlds(None))[0], glb.skinned(glb.worlds(at))
    joints, joints_at = joint_places(glb, None)[0], joint_places(glb, at)
    for joint, name in enumerate(HUMANML3D.names):
        near = np.linalg.norm(rest - joints[joint], axis=-1) < 0.13
        assert near.sum() > 20, name
        shift = moved[:, near].mean(1) - joints_at[:, joint]
        assert np.linalg.norm(shift, axis=-1).max() < 0.09, name
    edges = glb.triangles[:, :2]
    longest = np.linalg.norm(moved[:, edges[:, 0]] - moved[:, edges[:, 1]], axis=-1).max()
    assert longest < 0.09
    assert -0.05 < moved[..., 1].min() < 0.05, "feet on the floor"


@pytest.mark.slow
def test_soles_stand_flat(mocap_dir: Path, tmp_path: Path) -> None:
    """In the recordings of both kinds of feet, a standing person's soles lie on the floor."""
    for name in ("CMU_14_24", "BN1_bow_active_001"):
        motion = recording(mocap_dir, name)
        glb = written(motion, tmp_path)
        lowest = glb.skinned(glb.worlds(glb.times[::10]))[..., 1].min(-1)
        assert -0.03 < np.median(lowest) < 0.02, name
