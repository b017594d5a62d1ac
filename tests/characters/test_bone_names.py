"""Bones of characters and recordings get our joints' names: known ones, a user's, and by a guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import invented
from glb_files import LIMBS, NUMBERED, angles, played_joints, retargeted
from rigs import names_of, rig

from motiongpt3.characters.bone_names import BY_PLACE, DIALECTS, KNOWN_RIGS, by_dialect, load_map
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats.glb import load_character
from motiongpt3.motion.retarget import REQUIRED
from motiongpt3.motion.skeleton import HUMANML3D


@pytest.mark.slow
@pytest.mark.parametrize("pose", ["T", "A"])
@pytest.mark.parametrize("kind", [*KNOWN_RIGS, "numbered"])
def test_known_and_unknown_names(tmp_path: Path, kind: str, pose: str) -> None:
    names = NUMBERED if kind == "numbered" else names_of(kind)
    motion = invented(3, 30, wildness=0.3)
    path = rig(tmp_path, names, pose)
    character = load_character(path)
    assert character.bones.how == (BY_PLACE if kind == "numbered" else kind)
    assert {joint: character.nodes.names[node] for joint, node in character.bones.nodes.items()} == names
    played, glb = retargeted(motion, path)
    np.testing.assert_allclose(played_joints(glb, names), played.joints, atol=1e-5)
    assert angles(played.joints, motion.joints, LIMBS[:4]).max() < 0.1, "arms point where the source's do"


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


def test_a_rig_without_a_leg(tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="no bone was found for l_hip, l_knee, l_ankle"):
        load_character(rig(tmp_path, without=("l_hip",)))


def test_the_shipped_tables_are_whole() -> None:
    for kind, joints in KNOWN_RIGS.items():
        assert set(joints) == set(HUMANML3D.names), kind
        assert len(set(joints.values())) == 22, kind
        assert not any("<" in bone for bone in joints.values()), kind
    for dialect in DIALECTS:
        assert set(dialect.joints) == set(HUMANML3D.names), dialect.name
        for mix in dialect.joints.values():
            assert sum(mix.values()) == pytest.approx(1), dialect.name


def test_a_dialect_mixes_the_joints_of_its_file() -> None:
    dialect = next(dialect for dialect in DIALECTS if dialect.name == "Bandai-Namco")
    sources = sorted({source for mix in dialect.joints.values() for source in mix})
    names = [f"rig:{source}" for source in reversed(sources)]
    places = np.arange(2 * len(names) * 3, dtype=np.float64).reshape(2, -1, 3)
    placed = by_dialect(dialect, names)
    found = placed.assemble(places[:, placed.nodes])
    at = {name.removeprefix("rig:"): places[:, node] for node, name in enumerate(names)}
    assert placed.names["l_hip"] == "rig:UpperLeg_L"
    np.testing.assert_allclose(found[:, HUMANML3D.index("l_hip")], at["UpperLeg_L"])
    np.testing.assert_allclose(found[:, HUMANML3D.index("spine3")], 0.75 * at["Chest"] + 0.25 * at["Neck"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a\n", "no map"), ("nose: x\n", "nose"), ("a: [", "no YAML"), ("l_hip: [x]\n", "no map")],
)
def test_maps_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bones.yaml").write_text(text)
    with pytest.raises(MotionGPT3Error, match=message) as caught:
        load_map(tmp_path / "bones.yaml")
    assert "\n" not in str(caught.value)


def test_a_map_is_read(tmp_path: Path) -> None:
    (tmp_path / "bones.yaml").write_text("l_hip: Thigh_L\nhead: 7\n")
    assert load_map(tmp_path / "bones.yaml") == {"l_hip": "Thigh_L", "head": "7"}
