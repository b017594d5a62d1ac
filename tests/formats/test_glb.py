"""GLB: the official validator, and what a reader of our own finds: joints where they were, and characters that move."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import invented, recorded, recording
from glb_files import LIMBS, NUMBERED, angles, changed, joint_places, played_joints, retargeted, written
from glb_reader import Glb, parse
from hypothesis import given, settings
from hypothesis import strategies as st
from npm import in_node
from people import person
from rigs import names_of, rig

from motiongpt3.characters.bone_names import KNOWN_RIGS, OWN_HELPERS
from motiongpt3.cli.main import main
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import bvh, load, read, save
from motiongpt3.formats.glb import load_character, write_character
from motiongpt3.motion.contacts import find_contacts
from motiongpt3.motion.foot_lock import lock_feet
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.skeleton import HUMANML3D

VALIDATE = """
const validator = require(process.argv[1]), fs = require('fs');
const check = name => validator.validateBytes(new Uint8Array(fs.readFileSync(name)));
Promise.all(process.argv.slice(2).map(check)).then(all => console.log(JSON.stringify(all)));
"""


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


@pytest.mark.slow
def test_real_motions_are_reached(mocap_dir: Path, tmp_path: Path) -> None:
    for motion in recorded(mocap_dir, "test", 40):
        glb = written(motion, tmp_path)
        np.testing.assert_allclose(glb.times, np.arange(len(motion)) / 20, atol=1e-5)
        error = np.linalg.norm(joint_places(glb, glb.times) - motion.joints, axis=-1)
        assert error.mean() < 0.0005, motion.name
        assert error.max() < 0.005, motion.name


@pytest.mark.slow
def test_real_motions_are_reached_between_the_frames(mocap_dir: Path, tmp_path: Path) -> None:
    """Halfway between two frames nothing flies about, as bones would whose twist jumps."""
    lively = [recording(mocap_dir, name) for name in ("BN1_dash_childish_001", "BN1_kick_normal_001")]
    for motion in [*lively, *recorded(mocap_dir, "val", 10)]:
        glb = written(motion, tmp_path)
        found = joint_places(glb, (glb.times[1:] + glb.times[:-1]) / 2)
        error = np.linalg.norm(found - (motion.joints[1:] + motion.joints[:-1]) / 2, axis=-1)
        assert error.mean() < 0.005, motion.name
        assert error.max() < 0.08, motion.name


@pytest.mark.slow
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
    np.testing.assert_allclose(joint_places(glb, glb.times), motion.joints, atol=2e-5)


@pytest.mark.parametrize("name", awkward())
def test_awkward_motions_are_sound(tmp_path: Path, name: str) -> None:
    motion = awkward()[name]
    glb = written(motion, tmp_path)
    check_soundness(glb)
    if name != "far and wild":
        size = max(1.0, float(abs(motion.joints).max()))
        np.testing.assert_allclose(joint_places(glb, glb.times), motion.joints, atol=2e-5 * size)


@pytest.mark.slow
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
        save(invented(0, 1200, fps=0.001), tmp_path / "clip.glb")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_official_validator_has_nothing_to_say_of_characters(tmp_path: Path) -> None:
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_real_motions_come_back(mocap_dir: Path, tmp_path: Path) -> None:
    for motion in recorded(mocap_dir, "test", 40):
        found = load(save(motion, tmp_path / "clip.glb"))
        error = np.linalg.norm(found.joints - motion.joints, axis=-1)
        assert (found.fps, found.name) == (20, motion.name)
        assert error.mean() < 0.0001, motion.name
        assert error.max() < 0.001, motion.name


@pytest.mark.slow
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

    return bone_vectors(torch.tensor(motion.joints)).numpy()


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
    whole = read(with_animation(tmp_path, rig(tmp_path)))
    numbered = read(with_animation(tmp_path, rig(tmp_path, NUMBERED)))
    assert any("guessed from where the joints lie" in doubt for doubt in numbered.doubts)
    np.testing.assert_allclose(numbered.motion.joints, whole.motion.joints, atol=0.05)
    lacking = read(with_animation(tmp_path, rig(tmp_path, without=("spine2", "l_collar", "l_foot"))))
    assert any(note.startswith("no bone is spine2, l_foot, l_collar: placed by") for note in lacking.notes)
    for bone in (["l_shoulder", "l_elbow"], ["l_elbow", "l_wrist"], ["l_hip", "l_knee"], ["r_ankle", "r_foot"]):
        start, end = map(HUMANML3D.index, bone)
        ways = [reading.motion.joints[:, end] - reading.motion.joints[:, start] for reading in (lacking, whole)]
        np.testing.assert_allclose(*ways, atol=0.03)
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


def test_a_careless_exporters_axes_and_unit(tmp_path: Path) -> None:
    """z up and centimetres by a node above the figure, as of a scene that was not converted."""
    motion = Motion(person(30, speed=1.0), fps=30)

    def wrapped(document: dict[str, Any]) -> None:
        half = np.sqrt(0.5)
        document["nodes"].append({"rotation": [half, 0, 0, half], "scale": [100, 100, 100], "children": [0]})
        document["scenes"][0]["nodes"] = [len(document["nodes"]) - 1]

    reading = read(changed(tmp_path, wrapped, motion))
    np.testing.assert_allclose(reading.motion.joints, motion.joints, atol=1e-5)
    assert reading.facts["up"].startswith("z (")
    assert reading.facts["unit"] == "cm"
    assert len(reading.notes) == 2


def test_a_rig_saved_in_a_pose_stands_as_its_skin_was_bound(tmp_path: Path) -> None:
    motion, played = invented(3, 20, wildness=0.3), []

    def posed(document: dict[str, Any]) -> None:
        for number, node in enumerate(document["nodes"][:20]):
            node["rotation"] = [0.0, 0.0, float(np.sin(0.1 + number / 20)), float(np.cos(0.1 + number / 20))]

    for change in (None, posed):
        character = load_character(rig(tmp_path, change=change))
        assert bool(character.posed) == (change is posed)
        result = write_character(motion, character, tmp_path / "out.glb")
        played.append((result.joints, load(tmp_path / "out.glb").joints))
    np.testing.assert_allclose(played[1][0], played[0][0], atol=1e-5)
    np.testing.assert_allclose(played[1][1], played[0][1], atol=1e-5)


def test_root_motion(tmp_path: Path) -> None:
    """A bone at the floor carries the way and the facing; what is seen stays the same."""
    motion = Motion(person(30, speed=1.0), fps=30)

    def rooted(document: dict[str, Any]) -> None:
        nodes = document["nodes"]
        top = next(
            n for n in document["skins"][0]["joints"] if not any(n in node.get("children", []) for node in nodes)
        )
        nodes.append({"name": "root", "children": [top]})
        document["scenes"][0]["nodes"] = [len(nodes) - 1 if n == top else n for n in document["scenes"][0]["nodes"]]

    path = rig(tmp_path, change=rooted)
    shown = {}
    for root_motion in (False, True):
        write_character(motion, load_character(path), tmp_path / "out.glb", root_motion)
        shown[root_motion] = load(tmp_path / "out.glb").joints
    np.testing.assert_allclose(shown[True], shown[False], atol=1e-5)
    document = parse((tmp_path / "out.glb").read_bytes()).json
    root = next(number for number, node in enumerate(document["nodes"]) if node.get("name") == "root")
    moved = {c["target"]["path"] for c in document["animations"][0]["channels"] if c["target"]["node"] == root}
    assert moved == {"translation", "rotation"}
    with pytest.raises(MotionGPT3Error, match="no bone above the pelvis"):
        write_character(motion, load_character(rig(tmp_path)), tmp_path / "out.glb", root_motion=True)
