"""GLB: the official validator, and what a reader of our own finds: joints where they were, a skin that closes."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import invented, recorded, recording
from glb_reader import Glb, parse
from hypothesis import given, settings
from hypothesis import strategies as st
from npm import in_node
from rigs import names_of, rest_joints, rig

from motiongpt3.characters.bone_names import KNOWN_RIGS, OWN_HELPERS, OWN_NAMES
from motiongpt3.cli.main import main
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import bvh, load, save
from motiongpt3.formats import glb as glb_format
from motiongpt3.formats import gltf as gltf_animation
from motiongpt3.formats.glb import load_character, write_character
from motiongpt3.formats.gltf import pack
from motiongpt3.motion.contacts import find_contacts
from motiongpt3.motion.foot_lock import lock_feet
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.retarget import REQUIRED, RiggedMotion
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
    tree = bvh.parse(save(motion, tmp_path / "clip.bvh").read_text(), "clip").joints
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


def test_ten_seconds_are_small(tmp_path: Path) -> None:
    for fps in (20, 30, 60):
        motion = invented(0, 10 * fps, fps)
        path = save(motion, tmp_path / "clip.glb")
        assert path.stat().st_size < 2_000_000


def test_times_that_no_file_can_hold(tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="too long for a GLB file"):
        save(invented(fps=1e-300), tmp_path / "clip.glb")
    assert not list(tmp_path.iterdir())


NUMBERED = {joint: f"bone_{number}" for number, joint in enumerate(HUMANML3D.names)}
LIMBS = [(16, 18), (18, 20), (17, 19), (19, 21), (1, 4), (4, 7), (2, 5), (5, 8), (12, 15)]


def retargeted(motion: Motion, path: Path) -> tuple[RiggedMotion, Glb]:
    character = load_character(path)
    played = write_character(motion, character, path.with_name("out.glb"))
    return played, parse(path.with_name("out.glb").read_bytes())


def played_joints(glb: Glb, names: dict[str, str]) -> np.ndarray:
    """(T, 22, 3) of the file, read by a reader of the tests' own."""
    listed = [node.get("name", "") for node in glb.json["nodes"]]
    return rest_joints(glb.worlds(glb.times)[..., :3, 3], listed, names)


def angles(one: np.ndarray, other: np.ndarray, bones: list[tuple[int, int]]) -> np.ndarray:
    """(T, B) degrees between bones of two figures."""
    a, b = (np.stack([joints[:, j] - joints[:, i] for i, j in bones], axis=1) for joints in (one, other))
    cosine = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


@pytest.mark.parametrize("pose", ["T", "A"])
@pytest.mark.parametrize("kind", [*KNOWN_RIGS, "numbered"])
def test_known_and_unknown_names(tmp_path: Path, kind: str, pose: str) -> None:
    names = NUMBERED if kind == "numbered" else names_of(kind)
    motion = invented(3, 30, wildness=0.3)
    path = rig(tmp_path, names, pose)
    character = load_character(path)
    assert character.bones.how == ("guessed" if kind == "numbered" else kind)
    assert {joint: character.nodes.names[node] for joint, node in character.bones.nodes.items()} == names
    played, glb = retargeted(motion, path)
    np.testing.assert_allclose(played_joints(glb, names), played.joints, atol=1e-5)
    assert angles(played.joints, motion.joints, LIMBS[:4]).max() < 0.1, "arms point where the source's do"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pose": "A"},
        {"legs": 1.3},
        {"legs": 0.7, "pose": "A"},
        {"unit": 100.0, "yaw": 3.0},
        {"without": ("spine2", "l_collar", "r_collar", "neck")},
        {"without": ("l_foot", "r_foot")},
    ],
    ids=str,
)
def test_real_motions(mocap_dir: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """The bars: 3 degrees on average, feet on the floor, standing feet stay, the stride scaled by the legs."""
    path = rig(tmp_path, **changes)
    errors, heights, slides = [], [], []
    for source in recorded(mocap_dir, "test", 8):
        motion = lock_feet(source)
        played, glb = retargeted(motion, path)
        joints = played_joints(glb, names_of("Mixamo"))
        errors.append(played.error)
        assert played.scale == pytest.approx(changes.get("legs", 1) * changes.get("unit", 1), rel=0.02)
        way = np.linalg.norm(joints[-1, 0] - joints[0, 0]) / played.scale
        assert way == pytest.approx(np.linalg.norm(motion.joints[-1, 0] - motion.joints[0, 0]), abs=0.12)
        for c in find_contacts(motion):
            toes = joints[c.start : c.stop, (10, 11)[c.side]] / played.scale
            heights.append(np.median(toes[:, 1]))
            slides.append(np.linalg.norm((toes - toes[0])[:, [0, 2]], axis=-1).max())
    assert np.mean(errors) < (4 if "l_collar" in changes.get("without", ()) else 3)
    if "l_foot" not in changes.get("without", ()):
        assert np.abs(heights).max() < 0.03
        assert np.percentile(slides, 90) < 0.03


def test_the_skin_goes_along(mocap_dir: Path, tmp_path: Path) -> None:
    """On the mannequin itself the result looks like our own GLB of the motion: the surface stands on the floor."""
    motion = recorded(mocap_dir, "test", 12)[3]
    _, glb = retargeted(motion, rig(tmp_path))
    own = parse(save(motion, tmp_path / "own.glb").read_bytes())
    at = glb.times[::10]
    ours, theirs = (file.skinned(file.worlds(at)) for file in (own, glb))
    assert np.linalg.norm(ours - theirs, axis=-1).mean() < 0.05
    assert abs(np.median(theirs[..., 1].min(-1))) < 0.03


def test_the_official_validator_has_nothing_to_say_rigged(tmp_path: Path) -> None:
    def with_matrices(document: dict[str, Any]) -> None:
        for node in document["nodes"][:-1]:
            x, y, z = node.pop("translation", (0, 0, 1e-3))
            node["matrix"] = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, x, y, z, 1]

    files = []
    for number, changes in enumerate([{}, {"pose": "A", "yaw": 1.0, "unit": 100.0}, {"change": with_matrices}]):
        for fps in (20, 30, 60)[number:]:
            folder = tmp_path / f"{number} {fps}"
            folder.mkdir()
            retargeted(invented(number, 30, fps, 0.4), rig(folder, **changes))
            files.append(folder / "out.glb")
    validate_files(files)


def test_other_animations_and_what_is_not_ours_stay(tmp_path: Path) -> None:
    def more(document: dict[str, Any]) -> None:
        document["extras"] = {"made by": "someone"}
        document["nodes"][0]["extras"] = {"kept": True}

    path = rig(tmp_path, change=more)
    retargeted(invented(1).replace(name="first"), path)
    again = path.with_name("out.glb").rename(tmp_path / "again.glb")
    _, glb = retargeted(invented(2).replace(name="second"), again)
    assert [entry["name"] for entry in glb.json["animations"]] == ["second", "first"]
    assert glb.json["extras"] == {"made by": "someone"}
    assert glb.json["nodes"][0]["extras"] == {"kept": True}
    before = parse(path.read_bytes())
    np.testing.assert_array_equal(glb.skinned(glb.worlds(None)), before.skinned(before.worlds(None)))


@pytest.mark.parametrize("version", [0, 1])
def test_a_vrm_file_says_itself_which_bone_is_which(tmp_path: Path, version: int) -> None:
    def label(document: dict[str, Any]) -> None:
        numbers = {node["name"]: number for number, node in enumerate(document["nodes"])}
        bones = {bone: {"node": numbers[NUMBERED[joint]]} for joint, bone in names_of("VRM").items()}
        listed = [{"bone": bone, **entry} for bone, entry in bones.items()] if version == 0 else bones
        document["extensions"] = {("VRM", "VRMC_vrm")[version]: {"humanoid": {"humanBones": listed}}}

    path = rig(tmp_path, NUMBERED, change=label).rename(tmp_path / "hero.vrm")
    assert load_character(path).bones.how == "VRM"


def test_a_map_of_the_users(tmp_path: Path) -> None:
    names = {joint: f"{joint[::-1]} x" for joint in HUMANML3D.names}
    path = rig(tmp_path, names, without=("l_hip", "r_hip"))
    with pytest.raises(MotionGPT3Error, match="l_hip"):
        load_character(path)
    path = rig(tmp_path, names)
    given = {joint: names[joint] for joint in REQUIRED}
    assert load_character(path, given).bones.nodes.items() >= load_character(path, {}).bones.nodes.items()
    with pytest.raises(MotionGPT3Error, match="no bone 'Thigh'"):
        load_character(path, {"l_hip": "Thigh"})
    with pytest.raises(MotionGPT3Error, match="does not hang"):
        load_character(path, {"l_hip": names["l_wrist"], "l_wrist": names["l_hip"]})
    with pytest.raises(MotionGPT3Error, match="for both"):
        load_character(path, {"l_hip": names["r_hip"], "r_hip": names["r_hip"]})
    with pytest.raises(MotionGPT3Error, match="no bone was found for r_hip"):
        load_character(path, {"l_hip": names["r_hip"]})


def damaged(document: dict[str, Any], name: str) -> None:
    """Change a sound rig into one that cannot be used."""
    nodes = document["nodes"]
    match name:
        case "no skin":
            document.pop("skins")
        case "two figures":
            document["skins"].append({"joints": [len(nodes)]})
            nodes.append({"name": "Other"})
        case "draco":
            document["extensionsRequired"] = document["extensionsUsed"] = ["KHR_draco_mesh_compression"]
        case "cycle":
            nodes[5]["children"] = [4]
        case "own child":
            nodes[0]["children"] = [0]
        case "no such child":
            nodes[0]["children"] = [10**9]
        case "a child that is text":
            nodes[0]["children"] = "all"
        case "no numbers":
            nodes[0]["translation"] = ["a", None, {}]
        case "endless numbers":
            nodes[0]["translation"] = [1e300, 0, 0]
        case "flat":
            nodes[0]["scale"] = [1, 0, 1]
        case "mirrored":
            nodes[0]["scale"] = [-1, 1, 1]
        case "uneven":
            nodes[0]["scale"] = [1, 2, 1]
        case "lying":
            nodes[0]["rotation"] = [0.7071068, 0, 0, 0.7071068]
        case "elsewhere":
            document["buffers"][0]["uri"] = "hero.bin"
        case "long buffer":
            document["buffers"][0]["byteLength"] = 10**12
        case "no joints":
            document["skins"][0]["joints"] = [0.5, "x"]
        case "skins that are none":
            document["skins"] = {"a": 1}
        case "no nodes":
            document["nodes"] = []
        case "buffers that are none":
            document["buffers"] = 3


DAMAGES = {
    "no skin": "no skin", "two figures": "2 skins on separate", "draco": "compressed", "cycle": "impossible children",
    "own child": "cycle|impossible", "no such child": "impossible children", "a child that is text": "impossible",
    "no numbers": "that is none", "endless numbers": "that is none", "flat": "unevenly", "mirrored": "unevenly",
    "uneven": "unevenly", "lying": "upright", "elsewhere": "other files", "long buffer": "longer than its data",
    "no joints": "no joints", "skins that are none": "no list", "no nodes": "0 nodes",
    "buffers that are none": "no list",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_rig_that_cannot_be_used(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = rig(tmp_path, change=lambda document: damaged(document, name))
    clip, out = save(invented(), tmp_path / "clip.npz"), tmp_path / "made" / "out.glb"
    assert main(["retarget", str(clip), "--rig", str(path), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(DAMAGES[name], said), said
    assert not out.parent.exists()


def test_a_rig_without_a_leg(tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="no bone was found for l_hip, l_knee, l_ankle"):
        load_character(rig(tmp_path, without=("l_hip",)))


def test_files_that_are_no_glb(tmp_path: Path) -> None:
    whole = rig(tmp_path).read_bytes()
    length = struct.unpack_from("<I", whole, 12)[0]
    nested = b"[" * 100_000 + b"]" * 100_000
    text = {
        "empty": b"", "short": whole[:7], "head": whole[:12], "cut": whole[:-100], "cut in JSON": whole[:500],
        "version": whole[:4] + struct.pack("<I", 1) + whole[8:], "text": b"solid thing",
        "no JSON": whole[:20] + b"x" * length + whole[20 + length :], "nan": pack({}, b"")[:20] + b"NaN ",
        "long chunk": whole[:12] + struct.pack("<I", 2**32 - 1) + whole[16:],
        "nested": struct.pack("<4sIII4s", b"glTF", 2, 20 + len(nested), len(nested), b"JSON") + nested,
        "a list": struct.pack("<4sIII4s", b"glTF", 2, 24, 4, b"JSON") + b"[]  ",
        "surrogates": pack({"nodes": [{"name": "\ud800"}]}, b""),
    }  # fmt: skip
    for name, data in text.items():
        path = tmp_path / f"{name}.glb"
        path.write_bytes(data)
        with pytest.raises(MotionGPT3Error) as error:
            load_character(path)
        assert "\n" not in str(error.value)
    with pytest.raises(MotionGPT3Error, match="cannot read"):
        load_character(tmp_path / "none.glb")
    with pytest.raises(MotionGPT3Error, match=r"\.glb or \.vrm"):
        load_character(tmp_path / "hero.fbx")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, hero, out = save(invented(0, 40, wildness=0.2), tmp_path / "clip.npz"), rig(tmp_path), tmp_path / "out.glb"
    bones = tmp_path / "bones.yaml"
    bones.write_text("l_hip: LeftUpLeg\n")
    assert main(["retarget", str(clip), "--rig", str(hero), "-o", str(out), "--bones", str(bones), "--fps", "30"]) == 0
    said = capsys.readouterr().out
    assert "joint directions:" in said
    assert "22 of 22" in said
    assert "jitter" in said, "what finishing changed"
    assert main(["retarget", str(clip), "--rig", str(hero), "-o", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bones"]["l_hip"] == "LeftUpLeg"
    assert facts["error_degrees"] < 20
    for text, reason in (("- a\n", "no map"), ("nose: x\n", "nose"), ("a: [", "no YAML")):
        bones.write_text(text)
        assert main(["retarget", str(clip), "--rig", str(hero), "-o", str(out), "--bones", str(bones)]) == 2
        assert reason in capsys.readouterr().err


Change = Callable[[dict[str, Any]], object]


def changed(folder: Path, change: Change, motion: Motion | None = None) -> Path:
    """A file of ours whose JSON was changed."""
    glb = parse(save(motion or invented(1, 10), folder / "own.glb").read_bytes())
    change(glb.json)
    path = folder / "changed.glb"
    path.write_bytes(pack(glb.json, glb.binary))
    return path


def rekeyed(folder: Path, motion: Motion, times: np.ndarray, kept: np.ndarray, extras: bool = False) -> Path:
    """A file of ours with only some of its keys, at other times."""
    glb = parse(save(motion, folder / "own.glb").read_bytes())
    animation, data = glb.json["animations"][0], bytearray(glb.binary)
    if not extras:
        animation.pop("extras")

    def replace(accessor: int, values: np.ndarray) -> None:
        entry = glb.json["accessors"][accessor]
        view = glb.json["bufferViews"][entry["bufferView"]]
        raw = values.astype("<f4").tobytes()
        data[view["byteOffset"] : view["byteOffset"] + len(raw)] = raw
        entry["count"], view["byteLength"] = len(values), len(raw)

    for sampler in animation["samplers"]:
        replace(sampler["output"], glb.array(sampler["output"])[kept])
    replace(animation["samplers"][0]["input"], times)
    path = folder / "rekeyed.glb"
    path.write_bytes(pack(glb.json, bytes(data)))
    return path


# --------------------------------------------------------------------------------------------------------------- ours


def test_real_motions_come_back(mocap_dir: Path, tmp_path: Path) -> None:
    for motion in recorded(mocap_dir, "test", 40):
        found = load(save(motion, tmp_path / "clip.glb"))
        error = np.linalg.norm(found.joints - motion.joints, axis=-1)
        assert (found.fps, found.name) == (20, motion.name)
        assert error.mean() < 0.0001, motion.name
        assert error.max() < 0.001, motion.name


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.sampled_from([0.5, 7.5, 20, 23.976, 24, 29.97, 30, 60, 120, 1000]),
    st.floats(0.1, 3),
)
def test_invented_motions_come_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, frames: int, fps: float, wildness: float
) -> None:
    motion = invented(seed, frames, fps, wildness)
    found = load(save(motion, tmp_path_factory.mktemp("glb") / "clip.glb"))
    assert (found.fps, found.caption, found.name) == (fps, motion.caption, motion.name)
    np.testing.assert_allclose(found.joints, motion.joints, atol=1e-5)


@pytest.mark.parametrize("name", awkward())
def test_awkward_motions_come_back(tmp_path: Path, name: str) -> None:
    motion = awkward()[name]
    found = load(save(motion, tmp_path / "clip.glb"))
    assert found.fps == motion.fps
    assert found.caption is None or found.caption.isprintable()
    if name != "far and wild":  # its bones change their lengths by kilometres
        size = max(1.0, float(abs(motion.joints).max()))
        np.testing.assert_allclose(found.joints, motion.joints, atol=2e-5 * size)
    if name == "no words":
        assert (found.caption, found.name) == (None, "clip")


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    once = load(save(invented(4, 30), tmp_path / "a.glb"))
    np.testing.assert_allclose(load(save(once, tmp_path / "b.glb")).joints, once.joints, atol=1e-6)


# -------------------------------------------------------------------------------------------- keys of other programs


@pytest.mark.parametrize("fps", [20, 24, 30, 60, 29.97])
def test_the_rate_is_that_of_the_keys(tmp_path: Path, fps: float) -> None:
    """Also where they begin late, nothing tells the rate, or what tells it is wrong."""
    motion = invented(2, 50, 20)
    times = 1 / fps + np.arange(50) / fps
    for extras in (False, fps != 20):
        found = load(rekeyed(tmp_path, motion, times, np.arange(50), extras))
        assert found.fps == pytest.approx(fps, rel=1e-5)
        assert found.fps == fps or fps == 29.97
        np.testing.assert_allclose(found.joints, motion.joints, atol=1e-5)


def test_uneven_keys_are_sampled(tmp_path: Path) -> None:
    """Between its keys a joint turns evenly, as an independent reader has it."""
    kept = np.array([0, 1, 2, 3, 7, 8, 9, 10, 14, 19])
    path = rekeyed(tmp_path, invented(3, 20), kept / 20, kept)
    found = load(path)
    assert (len(found), found.fps) == (20, 20)
    np.testing.assert_allclose(found.joints, places(parse(path.read_bytes()), np.arange(20) / 20), atol=1e-5)


def test_keys_set_by_hand_are_sampled(tmp_path: Path) -> None:
    """Two keys a second that nobody calls the frame rate."""
    path = rekeyed(tmp_path, invented(3, 20), np.arange(4) / 2, np.array([0, 6, 12, 19]))
    found = load(path)
    assert (len(found), found.fps) == (31, 20)
    np.testing.assert_allclose(found.joints, places(parse(path.read_bytes()), np.arange(31) / 20), atol=1e-5)


def test_one_joint_with_all_keys_and_others_with_few(tmp_path: Path) -> None:
    """As exporters write that leave out keys where nothing moves: here all rotations have two, at both ends."""
    motion = invented(3, 20)
    glb = parse(save(motion, tmp_path / "own.glb").read_bytes())
    accessors, views = glb.json["accessors"], glb.json["bufferViews"]
    views.append({"buffer": 0, "byteOffset": len(glb.binary), "byteLength": 8})
    accessors.append({"bufferView": len(views) - 1, "componentType": 5126, "count": 2, "type": "SCALAR"})
    for sampler in glb.json["animations"][0]["samplers"][1:]:
        sampler["input"] = len(accessors) - 1
        accessors[sampler["output"]]["count"] = 2
    path = tmp_path / "thin.glb"
    path.write_bytes(pack(glb.json, glb.binary + np.array([0, 19 / 20], "<f4").tobytes()))
    found = load(path)
    assert (len(found), found.fps) == (20, 20)
    np.testing.assert_allclose(found.joints[:, 0], motion.joints[:, 0], atol=1e-5)
    poses, wanted = (joints - joints[:, :1] for joints in (found.joints[[0, -1]], motion.joints[:2]))
    np.testing.assert_allclose(poses, wanted, atol=1e-5)


def test_steps_stay_until_the_next_key(tmp_path: Path) -> None:
    motion, kept = invented(3, 9), np.array([0, 1, 2, 3, 7, 8])
    path = rekeyed(tmp_path, motion, kept / 20, kept)
    glb = parse(path.read_bytes())
    for sampler in glb.json["animations"][0]["samplers"]:
        sampler["interpolation"] = "STEP"
    path.write_bytes(pack(glb.json, glb.binary))
    np.testing.assert_allclose(load(path).joints, motion.joints[[0, 1, 2, 3, 3, 3, 3, 7, 8]], atol=1e-5)


def test_nodes_without_keys_rest_and_those_above_move_all(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["nodes"] += [
            {"name": "Armature", "children": [0], "scale": [2, 2, 2], "rotation": [0, 1, 0, 0]},
            {"name": "Scene", "children": [len(document["nodes"])], "translation": [1, 0, 3]},
        ]
        document["scenes"][0]["nodes"][0] = len(document["nodes"]) - 1
        document["animations"][0]["channels"] = document["animations"][0]["channels"][:5]

    path = changed(tmp_path, change, motion := invented(1, 10))
    glb = parse(path.read_bytes())
    found = load(path)
    np.testing.assert_allclose(found.joints, places(glb, glb.times), atol=1e-5)
    np.testing.assert_allclose(found.joints[:, 0], motion.joints[:, 0] * [-2, 2, -2] + [1, 0, 3], atol=1e-5)


def test_interleaved_arrays(tmp_path: Path) -> None:
    motion = invented(1, 10)
    glb = parse(save(motion, tmp_path / "own.glb").read_bytes())
    accessors, views = glb.json["accessors"], glb.json["bufferViews"]
    outputs = [sampler["output"] for sampler in glb.json["animations"][0]["samplers"]]
    rows = np.concatenate([glb.array(output) for output in outputs], axis=1)
    at = 0
    for output in outputs:
        width = glb.array(output).shape[1]
        accessors[output] |= {"bufferView": len(views), "byteOffset": at}
        at += 4 * width
    raw = rows.astype("<f4").tobytes()
    views.append({"buffer": 0, "byteOffset": len(glb.binary), "byteLength": len(raw), "byteStride": at})
    glb.json["buffers"][0]["byteLength"] += len(raw)
    path = tmp_path / "interleaved.glb"
    path.write_bytes(pack(glb.json, glb.binary + raw))
    np.testing.assert_allclose(load(path).joints, motion.joints, atol=1e-5)


@pytest.mark.parametrize("kind", KNOWN_RIGS)
def test_characters_with_known_names(tmp_path: Path, kind: str) -> None:
    """What `retarget` wrote is read as a person of our size whose limbs point where the character's do."""
    motion = invented(3, 30, 30, wildness=0.3)
    path = rig(tmp_path, names_of(kind), "A", legs=1.2, unit=100.0, yaw=2.0, change=without_helpers)
    character = load_character(path)
    played = write_character(motion, character, tmp_path / "out.glb")
    found = load(tmp_path / "out.glb")
    assert (len(found), found.fps, found.caption) == (30, 30, motion.caption)
    turn = np.array([[np.cos(2), 0, np.sin(2)], [0, 1, 0], [-np.sin(2), 0, np.cos(2)]])
    off = np.minimum(*(angles(found.joints, played.joints @ side, LIMBS) for side in (np.eye(3), turn)))
    assert off.max() < 0.1
    lengths = np.linalg.norm(bone_vectors_of(found), axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(HUMANML3D.bone_lengths, lengths.shape), atol=1e-4)


def without_helpers(document: dict[str, Any]) -> None:
    """Names by which a rig is one of ours are given up."""
    for node in document["nodes"]:
        node["name"] = "twist" if node.get("name") in OWN_HELPERS.values() else node.get("name", "")


def bone_vectors_of(motion: Motion) -> np.ndarray:
    import torch

    return bone_vectors(torch.tensor(motion.joints)).numpy()


# ---------------------------------------------------------------------------------------------------------- bad files


def damage(document: dict[str, Any], name: str) -> None:
    """Change a sound file into one that cannot be read."""
    animation, accessors, views = document["animations"][0], document["accessors"], document["bufferViews"]
    sampler, channel = animation["samplers"][1], animation["channels"][1]
    keys, values = accessors[sampler["input"]], accessors[sampler["output"]]
    view = views[values["bufferView"]]
    match name:
        case "no animation":
            document.pop("animations")
        case "no channels":
            animation["channels"] = []
        case "moves something else":
            animation["channels"] = [{"sampler": 0, "target": {"node": len(document["nodes"]) - 1, "path": "scale"}}]
        case "odd targets":
            animation["channels"] = [
                {"target": t} for t in (None, 3, {}, {"node": 0.5}, {"node": 1, "path": ["scale"]})
            ]
        case "morphs":
            for each in animation["channels"]:
                each["target"]["path"] = "weights"
        case "no skin":
            document.pop("skins")
        case "two skins":
            document["skins"].append({"joints": [len(document["nodes"])]})
            document["nodes"].append({"name": "Other"})
        case "draco":
            document["extensionsUsed"] = ["KHR_draco_mesh_compression"]
        case "cubic":
            sampler["interpolation"] = "CUBICSPLINE"
        case "odd interpolation":
            sampler["interpolation"] = {"a": ["b"]}
        case "sparse":
            values["sparse"] = {"count": 1}
        case "integers":
            values["componentType"] = 5122
        case "three numbers":
            values["type"] = "VEC3"
        case "no such sampler":
            channel["sampler"] = 10**9
        case "two channels":
            animation["channels"].append(channel)
        case "no such accessor":
            sampler["output"] = -1
        case "accessors that are text":
            sampler["input"] = "times"
        case "no view":
            values.pop("bufferView")
        case "beyond the view":
            values["byteOffset"] = 4
        case "beyond the file":
            view["byteLength"] = view["byteOffset"] = 10**9
        case "a small stride":
            view["byteStride"] = 4
        case "a huge stride":
            view["byteStride"] = 2**31
        case "a negative offset":
            view["byteOffset"] = -16
        case "other files":
            document["buffers"][0]["uri"] = "motion.bin"
        case "another buffer":
            view["buffer"] = 1
        case "no keys":
            keys["count"] = values["count"] = 0
        case "fewer times":
            keys["count"] = 5
        case "endless keys":
            keys["count"] = values["count"] = 10**9
        case "samplers that are none":
            animation["samplers"] = 3
        case "animations that are none":
            document["animations"] = [None]
        case "endless scale":
            for node in document["nodes"]:
                node["scale"] = [9e8, 9e8, 9e8]
        case "a far place":
            document["nodes"][0]["scale"] = [1e8] * 3
            document["nodes"].append({"children": [0], "scale": [1e8] * 3})
        case "other bones":
            for node in document["nodes"]:
                node["name"] = "node"
        case "nameless":
            for node in document["nodes"]:
                node.pop("name")


DAMAGES_glb_reading = {
    "no animation": "has no animation", "no channels": "moves none", "moves something else": "moves none",
    "odd targets": "moves none", "morphs": "moves none", "no skin": "no skin", "two skins": "2 skins on separate",
    "draco": "compressed", "cubic": "CUBICSPLINE: export it with linear", "odd interpolation": "of the kind",
    "sparse": "sparse", "integers": "no VEC4 of floats", "three numbers": "no VEC4 of floats",
    "no such sampler": "has no keys", "two channels": "a node has two", "no such accessor": "accessors that are not",
    "accessors that are text": "have 0 times", "no view": "bufferViews that are not", "beyond the view": "cut short",
    "beyond the file": "cut short", "a small stride": "cut short", "a huge stride": "cut short",
    "a negative offset": "no whole number", "other files": "in other files", "another buffer": "in other files",
    "no keys": "0 keys", "fewer times": "10 values of its animation have 5 times",
    "endless keys": "1000000000 keys", "samplers that are none": "samplers are no list",
    "animations that are none": "animations are no list", "endless scale": "too large to compute",
    "a far place": "too large to compute", "other bones": "another program's figure.*Export BVH",
    "nameless": "another program's",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES_glb_reading)
def test_damaged_files_are_one_line(tmp_path: Path, name: str) -> None:
    path = changed(tmp_path, lambda document: damage(document, name))
    with pytest.raises(MotionGPT3Error, match=DAMAGES_glb_reading[name]) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("width", "numbers", "message"),
    [
        (1, [0, 1, 1, 2], "do not rise"),
        (1, [0, 2, 1, 3], "do not rise"),
        (1, [0, 1, np.nan, 3], "NaN"),
        (1, [0, 1e-4, 2e-4, 3e-4], "fps must be"),
        (1, [0, 1e-5, 2e-5, 1e8], "too many"),
        (3, np.full((4, 3), np.inf), "infinite"),
        (3, np.full((4, 3), 1e6), "100 km"),
        (4, np.zeros((4, 4)), "rotations that are none"),
        (4, np.full((4, 4), np.nan), "NaN"),
    ],
)
def test_impossible_numbers(tmp_path: Path, width: int, numbers: Any, message: str) -> None:
    glb = parse(save(invented(0, 4), tmp_path / "own.glb").read_bytes())
    sampler = glb.json["animations"][0]["samplers"][1 if width == 4 else 0]
    view = glb.json["bufferViews"][glb.json["accessors"][sampler["input" if width == 1 else "output"]]["bufferView"]]
    data = bytearray(glb.binary)
    raw = np.asarray(numbers, "<f4").tobytes()
    data[view["byteOffset"] : view["byteOffset"] + len(raw)] = raw
    (tmp_path / "x.glb").write_bytes(pack(glb.json, bytes(data)))
    with pytest.raises(MotionGPT3Error, match=message):
        load(tmp_path / "x.glb")


def test_what_is_cut_short(tmp_path: Path) -> None:
    whole = save(invented(0, 10), tmp_path / "own.glb").read_bytes()
    text = struct.unpack_from("<I", whole, 12)[0]
    binless = struct.pack("<4sII", b"glTF", 2, 20 + text) + whole[12 : 20 + text]
    for number, data in enumerate([whole[:-1], whole[:-5000], whole[:100], whole[:12], whole[:3], binless, b"{}" * 9]):
        path = tmp_path / f"{number}.glb"
        path.write_bytes(data)
        with pytest.raises(MotionGPT3Error, match=r"cut short|no GLB") as caught:
            load(path)
        assert "\n" not in str(caught.value)


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every list or object of a JSON value with each of its indices or keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [spot for key in keys for spot in ((value, key), *spots(value[key]))]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Some value of the JSON becomes another one, and some bytes do: a motion or a refusal comes of it."""
    folder = tmp_path_factory.getbasetemp()
    glb = parse(save(invented(0, 4), folder / "own.glb").read_bytes())
    parts = ("nodes", "skins", "animations", "accessors", "bufferViews", "buffers")
    parent, key = data.draw(st.sampled_from(spots(data.draw(st.sampled_from([glb.json[part] for part in parts])))))
    junk = (None, -1, 0, 1, 3, 0.5, 10**12, 1e300, "", "x", [], [[]], {}, {"a": 1}, True)
    parent[key] = data.draw(st.sampled_from(junk))
    binary = bytearray(glb.binary)
    for at in data.draw(st.lists(st.integers(1, 4000), max_size=3)):  # the animation's arrays are the last ones
        binary[-at] = data.draw(st.integers(0, 255))
    (folder / "changed.glb").write_bytes(pack(glb.json, bytes(binary)))
    with contextlib.suppress(MotionGPT3Error):
        assert np.isfinite(load(folder / "changed.glb").joints).all()


@pytest.mark.parametrize(
    ("module", "limit", "value", "message"),
    [
        (glb_format, "MAX_TEXT", 1000, "JSON has over"),
        (gltf_animation, "MAX_KEYS", 100, "more than 100 keys"),
        (gltf_animation, "MAX_CHAIN", 20, "20 at most"),
        (gltf_animation, "MAX_FRAMES", 9, "10 keys; 1 to 9"),
    ],
)
def test_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, limit: str, value: int, message: str
) -> None:
    """Files whose parts are sound and whose whole is too much."""
    path = save(invented(0, 10), tmp_path / "clip.glb")
    monkeypatch.setattr(module, limit, value)
    with pytest.raises(MotionGPT3Error, match=message):
        load(path)


def test_a_long_chain_of_nodes(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        count = len(document["nodes"])
        document["nodes"] += [{"children": [count + k + 1]} for k in range(5000)] + [{"children": [0]}]

    with pytest.raises(MotionGPT3Error, match="hang from 50"):
        load(changed(tmp_path, change))


def test_texts_are_made_plain(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["animations"][0] |= {
            "name": "../a\u202eb\n" * 900,
            "extras": {"caption": "\ud800\x00" * 900, "fps": "x"},
        }

    found = load(changed(tmp_path, change))
    assert found.fps == 20
    for text in (found.name, found.caption):
        assert text is not None
        assert text.isprintable()
        assert len(text) <= 1000


def test_other_programs_figures(tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="another program's figure"):
        load(with_animation(tmp_path, rig(tmp_path, NUMBERED)))
    with pytest.raises(MotionGPT3Error, match="of Mixamo's it has no spine2, l_collar"):
        load(with_animation(tmp_path, rig(tmp_path, without=("spine2", "l_collar"))))
    with pytest.raises(MotionGPT3Error, match="has no animation"):
        load(rig(tmp_path))


def with_animation(folder: Path, hero: Path) -> Path:
    write_character(invented(0, 5), load_character(hero), folder / "out.glb")
    return folder / "out.glb"


def test_info_tells_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(invented(0, 90, 30), tmp_path / "clip.glb")
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["frames"], facts["fps"], facts["caption"]) == (90, 30, "a person moves.")
    path.write_bytes(path.read_bytes()[:-9])
    assert main(["info", str(path)]) == 2
    assert re.fullmatch(r"[^\n]*cut short[^\n]*\n", capsys.readouterr().err)
