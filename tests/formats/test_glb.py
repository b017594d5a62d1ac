"""GLB: the official validator, and what a reader of our own finds: joints where they were, a skin that closes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from clips import invented, recorded, recording
from glb_reader import Glb, parse
from hypothesis import given, settings
from hypothesis import strategies as st
from npm import in_node

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import bvh, save
from motiongpt3.formats.dialects import OWN_NAMES
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D

VALIDATE = """
const validator = require(process.argv[1]), fs = require('fs');
const check = name => validator.validateBytes(new Uint8Array(fs.readFileSync(name)));
Promise.all(process.argv.slice(2).map(check)).then(all => console.log(JSON.stringify(all)));
"""


def written(motion: Motion, folder: Path) -> Glb:
    return parse(save(motion, folder / "clip.glb").read_bytes())


def places(glb: Glb, seconds: np.ndarray | None) -> np.ndarray:
    """(S, 22, 3) positions of the 22 joints."""
    numbers = {node["name"]: number for number, node in enumerate(glb.json["nodes"])}
    return glb.worlds(seconds)[..., :3, 3][:, [numbers[OWN_NAMES[name]] for name in HUMANML3D.names]]


def awkward() -> dict[str, Motion]:
    """Motions on which something could break."""
    rest = invented(frames=1)
    wild = np.random.default_rng(0).normal(0, 2e4, (5, 22, 3))
    return {
        "one frame": rest,
        "one place": Motion(np.ones((3, 22, 3))),
        "far and wild": Motion(wild.clip(-9e4, 9e4), fps=60),
        "a giant": rest.replace(joints=rest.joints * 1e3),
        "a dwarf": rest.replace(joints=rest.joints * 1e-5),
        "slow": invented(frames=4, fps=0.001),
        "quick": invented(frames=400, fps=1000.0),
        "words": invented().replace(
            caption='a "person"\ud800 \0\n\t\u202e waves \N{GRINNING FACE}' * 90, name="\ud800/é"
        ),
        "no words": invented().replace(caption=None, name=None),
    }


def validate(motions: dict[str, Motion], folder: Path) -> None:
    """Write all and have Khronos' validator read them."""
    validate_files([save(motion, folder / f"{number}.glb") for number, motion in enumerate(motions.values())])


def validate_files(files: list[Path]) -> None:
    """Have Khronos' validator read files; skip where it is not installed."""
    reports = in_node(VALIDATE, "gltf-validator", "GLTF_VALIDATOR", *files)
    for file, report in zip(files, reports, strict=True):
        issues = report["issues"]
        assert (issues["numErrors"], issues["numWarnings"], issues["numInfos"], issues["numHints"]) == (0,) * 4, (
            file.name,
            issues["messages"],
        )
        assert report["info"]["animationCount"] == 1
        assert report["info"]["hasSkins"]


def test_the_official_validator_has_nothing_to_say(tmp_path: Path) -> None:
    validate(awkward() | {"long": invented(frames=300, wildness=1.5)}, tmp_path)


def test_the_official_validator_accepts_real_motions(mocap_dir: Path, tmp_path: Path) -> None:
    validate({str(clip.name): clip for clip in recorded(mocap_dir, "test", 6)}, tmp_path)


def test_real_motions_are_reached(mocap_dir: Path, tmp_path: Path) -> None:
    for motion in recorded(mocap_dir, "test", 40):
        glb = written(motion, tmp_path)
        np.testing.assert_allclose(glb.times, np.arange(len(motion)) / 20, atol=1e-5)
        error = np.linalg.norm(places(glb, glb.times) - motion.joints, axis=-1)
        assert error.mean() < 0.0005, motion.name
        assert error.max() < 0.005, motion.name


def test_real_motions_are_reached_between_the_frames(mocap_dir: Path, tmp_path: Path) -> None:
    """Halfway between two frames nothing flies about, as bones would whose twist jumps."""
    lively = [recording(mocap_dir, name) for name in ("BN1_dash_childish_001", "BN1_kick_normal_001")]
    for motion in [*lively, *recorded(mocap_dir, "val", 10)]:
        glb = written(motion, tmp_path)
        found = places(glb, (glb.times[1:] + glb.times[:-1]) / 2)
        error = np.linalg.norm(found - (motion.joints[1:] + motion.joints[:-1]) / 2, axis=-1)
        assert error.mean() < 0.005, motion.name
        assert error.max() < 0.08, motion.name


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.sampled_from([7.5, 20, 24, 29.97, 30, 60, 120]),
    st.floats(0.1, 3),
)
def test_invented_motions_are_reached(
    tmp_path_factory: pytest.TempPathFactory, seed: int, frames: int, fps: float, wildness: float
) -> None:
    motion = invented(seed, frames, fps, wildness)
    glb = written(motion, tmp_path_factory.mktemp("glb"))
    np.testing.assert_allclose(glb.times, np.arange(frames) / fps, rtol=1e-6)
    np.testing.assert_allclose(places(glb, glb.times), motion.joints, atol=2e-5)


@pytest.mark.parametrize("name", awkward())
def test_awkward_motions_are_sound(tmp_path: Path, name: str) -> None:
    motion = awkward()[name]
    glb = written(motion, tmp_path)
    check_soundness(glb)
    if name != "far and wild":
        size = max(1.0, float(abs(motion.joints).max()))
        np.testing.assert_allclose(places(glb, glb.times), motion.joints, atol=2e-5 * size)


def test_real_files_are_sound(mocap_dir: Path, tmp_path: Path) -> None:
    for motion in recorded(mocap_dir, "test", 8):
        check_soundness(written(motion, tmp_path))


def check_soundness(glb: Glb) -> None:
    """What the specification asks of arrays, and no NaN anywhere."""
    for number, accessor in enumerate(glb.json["accessors"]):
        values = glb.array(number)
        assert np.isfinite(values).all()
        if "min" in accessor:
            np.testing.assert_array_equal(values.min(0), np.float32(accessor["min"]))
            np.testing.assert_array_equal(values.max(0), np.float32(accessor["max"]))
    primitive = glb.json["meshes"][0]["primitives"][0]
    arrays = {name: glb.array(accessor) for name, accessor in primitive["attributes"].items()}
    assert "min" in glb.json["accessors"][primitive["attributes"]["POSITION"]]
    np.testing.assert_allclose(np.linalg.norm(arrays["NORMAL"], axis=-1), 1, atol=1e-5)
    weights, nodes = arrays["WEIGHTS_0"], arrays["JOINTS_0"]
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert nodes.max() < len(glb.json["skins"][0]["joints"])
    assert (nodes[weights == 0] == 0).all()
    assert glb.triangles.max() == len(weights) - 1
    assert (np.diff(glb.times) > 0).all()
    for quaternions in glb.tracks("rotation").values():
        np.testing.assert_allclose(np.linalg.norm(quaternions, axis=-1), 1, atol=1e-6)
        assert ((quaternions[1:] * quaternions[:-1]).sum(-1) >= -1e-6).all(), "the sign flips"


def test_a_person_who_turns_on_the_spot_goes_on_turning(tmp_path: Path) -> None:
    still = invented(0, 1, wildness=0.3).joints[0] - invented(0, 1, wildness=0.3).joints[0, 0]
    angles = np.linspace(0, 8 * np.pi, 400)
    turns = np.stack([[[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]] for a in angles])
    glb = written(Motion(still @ turns.transpose(0, 2, 1)), tmp_path)
    tracks = glb.tracks("rotation")
    assert np.linalg.norm(np.diff(tracks[0], axis=0), axis=-1).max() < 0.04
    assert max(np.ptp(track, axis=0).max() for node, track in tracks.items() if node) < 1e-4


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
    rest = dict(zip(HUMANML3D.names, places(glb, None)[0], strict=True))
    skin = glb.skinned(glb.worlds(None))[0]
    assert -0.01 < skin[:, 1].min() < 0.01
    assert 1.6 < skin[:, 1].max() < 1.9
    assert abs(skin[:, 0].max() + skin[:, 0].min()) < 0.05
    assert abs(rest["l_wrist"][1] - rest["l_shoulder"][1]) < 1e-6
    assert rest["l_wrist"][0] > 0.6 > -0.6 > rest["r_wrist"][0]
    assert rest["l_foot"][2] > rest["l_ankle"][2] + 0.05, "the toes point to +z"
    assert not any("rotation" in node for node in glb.json["nodes"])


def test_each_joint_is_inside_the_skin_that_moves_with_it(mocap_dir: Path, tmp_path: Path) -> None:
    """The mean of the vertices near a joint at rest stays near it in motion, and no triangle is torn apart."""
    motion = recording(mocap_dir, "CMU_05_01")
    glb = written(motion, tmp_path)
    at = glb.times[::7]
    rest, moved = glb.skinned(glb.worlds(None))[0], glb.skinned(glb.worlds(at))
    joints, joints_at = places(glb, None)[0], places(glb, at)
    for joint, name in enumerate(HUMANML3D.names):
        near = np.linalg.norm(rest - joints[joint], axis=-1) < 0.13
        assert near.sum() > 20, name
        shift = moved[:, near].mean(1) - joints_at[:, joint]
        assert np.linalg.norm(shift, axis=-1).max() < 0.09, name
    edges = glb.triangles[:, :2]
    longest = np.linalg.norm(moved[:, edges[:, 0]] - moved[:, edges[:, 1]], axis=-1).max()
    assert longest < 0.09
    assert -0.05 < moved[..., 1].min() < 0.05, "feet on the floor"


def test_soles_stand_flat(mocap_dir: Path, tmp_path: Path) -> None:
    """In the recordings of both kinds of feet, a standing person's soles lie on the floor."""
    for name in ("CMU_14_24", "BN1_bow_active_001"):
        motion = recording(mocap_dir, name)
        glb = written(motion, tmp_path)
        lowest = glb.skinned(glb.worlds(glb.times[::10]))[..., 1].min(-1)
        assert -0.03 < np.median(lowest) < 0.02, name


def test_names_are_those_of_our_bvh_files(tmp_path: Path) -> None:
    motion = invented()
    glb = written(motion, tmp_path)
    nodes = glb.json["nodes"]
    tree = bvh.parse(save(motion, tmp_path / "clip.bvh").read_text(), "clip").nodes
    wanted = {node.name: tree[node.parent].name if node.parent >= 0 else "" for node in tree if not node.is_end}
    found = {n["name"]: nodes[p]["name"] if p >= 0 else "" for n, p in zip(nodes, glb.parents, strict=True)}
    assert found == wanted | {"Mannequin": ""}
    assert set(glb.tracks("translation")) == {0}
    animation = glb.json["animations"][0]
    assert animation["name"] == "clip 0"
    assert animation["extras"] == {"fps": 20.0, "caption": "a person moves."}
    assert glb.json["asset"]["version"] == "2.0"


def test_the_same_motion_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = (save(invented(3, 30), tmp_path / f"{name}.glb").read_bytes() for name in "ab")
    assert one == other


def test_ten_seconds_are_small_and_quick(tmp_path: Path) -> None:
    save(invented(0, 20), tmp_path / "warm.glb")
    for fps in (20, 30, 60):
        motion = invented(0, 10 * fps, fps)
        start = time.perf_counter()
        path = save(motion, tmp_path / "clip.glb")
        assert time.perf_counter() - start < 1
        assert path.stat().st_size < 2_000_000


def test_times_that_no_file_can_hold(tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="too long for a GLB file"):
        save(invented(fps=1e-300), tmp_path / "clip.glb")
    assert not list(tmp_path.iterdir())
