"""Characters: found bones, rest poses, stride, floor, files that others accept, and rigs that cannot be used."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import invented, recorded
from glb_reader import Glb, parse
from rigs import names_of, rest_joints, rig
from test_glb import validate_files

from motiongpt3.cli import main
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import save
from motiongpt3.formats.bones import known_maps
from motiongpt3.formats.gltf import pack
from motiongpt3.formats.rigged import load_character, write_character
from motiongpt3.motion.contacts import contacts
from motiongpt3.motion.feet import fix_feet
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.retarget import REQUIRED, Played
from motiongpt3.motion.skeleton import HUMANML3D

NUMBERED = {joint: f"bone_{number}" for number, joint in enumerate(HUMANML3D.names)}
LIMBS = [(16, 18), (18, 20), (17, 19), (19, 21), (1, 4), (4, 7), (2, 5), (5, 8), (12, 15)]


def retargeted(motion: Motion, path: Path) -> tuple[Played, Glb]:
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
@pytest.mark.parametrize("kind", [*known_maps(), "numbered"])
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
        motion = fix_feet(source)
        played, glb = retargeted(motion, path)
        joints = played_joints(glb, names_of("Mixamo"))
        errors.append(played.error)
        assert played.scale == pytest.approx(changes.get("legs", 1) * changes.get("unit", 1), rel=0.02)
        way = np.linalg.norm(joints[-1, 0] - joints[0, 0]) / played.scale
        assert way == pytest.approx(np.linalg.norm(motion.joints[-1, 0] - motion.joints[0, 0]), abs=0.12)
        for c in contacts(motion):
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


def test_the_official_validator_has_nothing_to_say(tmp_path: Path) -> None:
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
