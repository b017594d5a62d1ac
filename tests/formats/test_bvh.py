"""BVH: independent readings, other programs' dialects, round trips and hostile files."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bvh_text import HABITS, rewritten
from clips import aligned_error, invented, recorded, recording
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people import person

from motiongpt3.characters.bone_names import OWN_NAMES, match
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import BvhDialect, Reading, ReadOptions, load, read, save
from motiongpt3.formats.bvh import Bvh, parse
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import bone_vectors, unit
from motiongpt3.motion.skeleton import HUMANML3D

DIALECTS = ["cmu_cgspeed_02_01", "cmu_cgspeed_b", "cmu_variant_02_01", "bandai1_bow_active_001",
            "bandai2_wave-right-hand_normal", "bandai2_walk-turn-left"]  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_positions_equal_an_independent_readers(samples_dir: Path, name: str) -> None:
    wanted = json.loads((samples_dir / "reference.json").read_text())[f"{name}.bvh"]
    bvh = parse((samples_dir / f"{name}.bvh").read_text(), name)
    assert len(bvh.values) == wanted["frames"]
    found = bvh.positions(list(wanted["joints"]))[wanted["at"]]
    np.testing.assert_allclose(found, np.array(list(wanted["joints"].values())).transpose(1, 0, 2), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in DIALECTS if name.startswith("cmu")])
def test_positions_equal_those_of_pybvh(samples_dir: Path, name: str) -> None:
    """It refuses position channels below the root, which Bandai-Namco's files have."""
    pybvh = pytest.importorskip("pybvh")
    theirs = pybvh.read_bvh_file(samples_dir / f"{name}.bvh").node_positions()
    bvh = parse((samples_dir / f"{name}.bvh").read_text(), name)
    np.testing.assert_allclose(bvh.positions(), theirs, atol=1e-6)


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_become_people_of_our_size(samples_dir: Path, name: str) -> None:
    motion = load(samples_dir / f"{name}.bvh")
    assert motion.fps == (30 if "bandai" in name else 120)
    lengths = bone_vectors(torch.tensor(motion.joints)).norm(dim=-1).numpy()
    np.testing.assert_allclose(lengths, np.broadcast_to(HUMANML3D.bone_lengths, lengths.shape), atol=1e-4)
    lowest = motion.joints[:, list(HUMANML3D.contacts), 1].min()
    assert -0.05 < lowest < 0.1
    head = np.median(motion.joints[:, 15, 1])
    assert 1.3 < head < 1.65


def test_two_conversions_of_one_recording_agree(samples_dir: Path) -> None:
    one, other = (load(samples_dir / f"cmu_{kind}_02_01.bvh").joints for kind in ("cgspeed", "variant"))
    assert len(one) == len(other) - 1, "the T-pose before the recording is dropped"
    assert aligned_error(one, other[1:]) < 0.08


@pytest.mark.slow
def test_bandai_equals_the_data_we_train_on(samples_dir: Path, mocap_dir: Path) -> None:
    wanted = recording(mocap_dir, "BN1_bow_active_001")
    found = load(samples_dir / "bandai1_bow_active_001.bvh").resample(20)
    assert aligned_error(found.joints, wanted.joints) < 0.005


@pytest.mark.slow
def test_round_trip_of_real_motions(mocap_dir: Path, tmp_path: Path) -> None:
    for motion in recorded(mocap_dir, "test", 40):
        found = load(save(motion, tmp_path / "clip.bvh"))
        error = np.linalg.norm(found.joints - motion.joints, axis=-1)
        assert found.fps == 20
        assert error.mean() < 0.0005, motion.name
        assert error.max() < 0.005, motion.name


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.sampled_from([7.5, 12.5, 20, 24, 29.97, 30, 60, 120]),
    st.floats(0.1, 3),
)
def test_round_trip_of_invented_motions(
    tmp_path_factory: pytest.TempPathFactory, seed: int, frames: int, fps: float, wildness: float
) -> None:
    motion = invented(seed, frames, fps, wildness)
    found = load(save(motion, tmp_path_factory.mktemp("bvh") / "clip.bvh"))
    assert found.fps == pytest.approx(fps, rel=1e-6)
    np.testing.assert_allclose(found.joints, motion.joints, atol=1e-4)


def test_joints_in_one_place_survive(tmp_path: Path) -> None:
    motion = Motion(np.ones((3, 22, 3)))
    np.testing.assert_allclose(load(save(motion, tmp_path / "point.bvh")).joints, motion.joints, atol=1e-5)


def test_bones_that_change_their_length_lose_little(tmp_path: Path) -> None:
    motion = invented(5, 60)
    noisy = motion.replace(joints=motion.joints + np.random.default_rng(0).normal(0, 0.002, motion.joints.shape))
    error = np.linalg.norm(load(save(noisy, tmp_path / "noisy.bvh")).joints - noisy.joints, axis=-1)
    assert error.mean() < 0.005
    assert error.max() < 0.02


def test_angles_go_on_without_jumps(tmp_path: Path) -> None:
    """A person who turns on the spot four times and then does a cartwheel: no angle jumps by half a turn."""
    still = invented(0, 1, wildness=0.3).joints[0] - invented(0, 1, wildness=0.3).joints[0, 0]
    angles = np.linspace(0, 8 * np.pi, 400)
    about_y = np.stack([[[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]] for a in angles])
    about_z = np.stack([[[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]] for a in angles])
    joints = np.concatenate([still @ about_y.transpose(0, 2, 1), still @ about_z.transpose(0, 2, 1)])
    path = save(Motion(joints), tmp_path / "turns.bvh")
    steps = np.abs(np.diff(parse(path.read_text(), "turns").values[:, 3:], axis=0))
    assert steps[np.r_[:399, 400:799]].max() < 15
    np.testing.assert_allclose(load(path).joints, joints, atol=1e-4)


def test_the_file_is_what_other_tools_expect(tmp_path: Path) -> None:
    text = save(invented(), tmp_path / "clip.bvh").read_text()
    bvh = parse(text, "clip")
    names = [joint.name for joint in bvh.joints if not joint.is_end]
    assert {"Hips", "Spine2", "LeftArm", "RightHand", "LeftToeBase", "LHipJoint", "LowerBack"} <= set(names)
    assert text.splitlines()[1] == "ROOT Hips"
    assert {joint.order for joint in bvh.joints if not joint.is_end} == {"ZXY"}
    bvh.values[:] = 0
    rest = dict(zip([joint.name for joint in bvh.joints], bvh.positions()[0], strict=True))
    assert abs(rest["LeftHand"][1] - rest["LeftArm"][1]) < 1e-6 < rest["LeftHand"][0] - rest["LeftArm"][0]
    assert 110 < rest["Head"][1] - rest["LeftFoot"][1] < 160, "centimetres"


def test_mixamo_names_are_retargeted(tmp_path: Path) -> None:
    """Our file with Mixamo's prefix, a metre-like unit and no helper names is a foreign dialect."""
    motion = invented(3)
    text = save(motion, tmp_path / "own.bvh").read_text()
    for number, name in enumerate(["LHipJoint", "RHipJoint", "LowerBack", "LowerNeck", "LCollarJoint", "RCollarJoint"]):
        text = text.replace(f"JOINT {name}\n", f"JOINT helper{number}\n")
    text = text.replace("JOINT ", "JOINT mixamorig:").replace("ROOT ", "ROOT mixamorig:")
    (tmp_path / "mixamo.bvh").write_text(text)
    np.testing.assert_allclose(load(tmp_path / "mixamo.bvh").joints, motion.joints, atol=1e-3)


MINIMAL = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Chest
  {
    OFFSET 0 10 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 5 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.05
0 1 0 0 0 0 90 0 0
0 2 0 0 0 90 0 0 0
"""


def test_a_minimal_file_is_parsed() -> None:
    for text in (MINIMAL, "\ufeff" + MINIMAL.replace("\n", "\r\n"), " ".join(MINIMAL.split())):
        bvh = parse(text, "minimal")
        ends = bvh.positions(["Chest end"])[:, 0]
        np.testing.assert_allclose(ends, [[-5, 11, 0], [0, 17, 0]], atol=1e-9)


def test_positions_replace_offsets_and_any_order_of_channels_is_followed() -> None:
    text = MINIMAL.replace(
        "CHANNELS 3 Zrotation Xrotation Yrotation", "CHANNELS 4 Yposition Xrotation Yrotation Zrotation"
    )
    text = text.replace("0 1 0 0 0 0 90 0 0", "0 1 0 0 0 0 20 90 90 0").replace(
        "0 2 0 0 0 90 0 0 0", "0 2 0 0 0 90 0 0 0 0"
    )
    chest, end = parse(text, "x").positions(["Chest", "Chest end"])[0]
    np.testing.assert_allclose(chest, [0, 21, 0], atol=1e-9)
    np.testing.assert_allclose(
        end, [0, 21, 5], atol=1e-9
    )  # the turn about y does nothing to y, the one about x lifts it


HOSTILE = {
    "not BVH": ("HELLO", "not a BVH file"),
    "no motion": (MINIMAL[: MINIMAL.index("MOTION")], "not a BVH file"),
    "cycle": (MINIMAL.replace("JOINT Chest", "JOINT Hips"), "'Hips' appears twice"),
    "two roots": (MINIMAL.replace("JOINT Chest", "ROOT Chest"), "stands where none can be"),
    "no root": (MINIMAL.replace("ROOT", "JOINT"), "stands where none can be"),
    "joint in end": (MINIMAL.replace("OFFSET 0 5 0", "JOINT a { OFFSET 0 0 0 CHANNELS 0 }"), "stands where none"),
    "unbalanced": (MINIMAL.replace("}\nMOTION", "MOTION"), "ends before its last }"),
    "too many braces": (MINIMAL.replace("}\nMOTION", "}}\nMOTION"), "stands where no such word"),
    "no brace": (MINIMAL.replace("Hips\n{", "Hips\n"), "."),
    "no frames": (MINIMAL.replace("Frames: 2", "Frames: 0"), "holds 0 frames"),
    "negative frames": (MINIMAL.replace("Frames: 2", "Frames: -2"), "holds -2 frames"),
    "a billion frames": (MINIMAL.replace("Frames: 2", "Frames: 999999999"), "frames; 1 to"),
    "half a frame": (MINIMAL.rstrip()[:-2], "declares 2 frames of 9 values but holds 17"),
    "frames no number": (MINIMAL.replace("Frames: 2", "Frames: two"), "where a number is expected"),
    "no frame time": (MINIMAL.replace("Frame Time: 0.05", ""), "after MOTION come"),
    "frame time negative": (MINIMAL.replace("0.05", "-0.05"), "impossible; say the rate with --fps-in"),
    "frame time tiny": (MINIMAL.replace("0.05", "0.0005"), "impossible; say the rate with --fps-in"),
    "frame time nan": (MINIMAL.replace("0.05", "nan"), "where a number is expected"),
    "NaN": (MINIMAL.replace("90 0 0\n0", "nan 0 0\n0"), "NaN or infinite"),
    "infinite": (MINIMAL.replace("90 0 0\n0", "inf 0 0\n0"), "NaN or infinite"),
    "letters": (MINIMAL.replace("90 0 0\n0", "x 0 0\n0"), "in the motion part"),
    "odd channel": (MINIMAL.replace("3 Zrotation", "3 Wrotation"), "impossible channels"),
    "channel twice": (MINIMAL.replace("3 Zrotation", "3 Xrotation"), "impossible channels"),
    "fewer channels": (MINIMAL.replace("CHANNELS 3", "CHANNELS 4"), "impossible channels"),
    "more channels": (MINIMAL.replace("CHANNELS 3", "CHANNELS 2"), "no such word"),
    "channels a word": (MINIMAL.replace("CHANNELS 3", "CHANNELS many"), "impossible channels|no such word"),
    "offset short": (MINIMAL.replace("OFFSET 0 10 0", "OFFSET 0 10"), "OFFSET has"),
    "offset nan": (MINIMAL.replace("OFFSET 0 10 0", "OFFSET 0 nan 0"), "OFFSET has"),
    "unknown joints": (MINIMAL, "no bone was found for l_hip, .* among Hips, Chest .*--bones"),
    "binary": ("HIERARCHY\0\0", "not a text file"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_bad_files_end_in_one_line(tmp_path: Path, case: str) -> None:
    text, message = HOSTILE[case]
    (tmp_path / "bad.bvh").write_text(text)
    with pytest.raises(MotionGPT3Error, match=message) as caught:
        load(tmp_path / "bad.bvh")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_deep_hierarchy_neither_recurses_nor_grows(tmp_path: Path) -> None:
    deep = "HIERARCHY ROOT a { " + " ".join(f"JOINT j{i} {{" for i in range(50_000)) + " MOTION"
    (tmp_path / "deep.bvh").write_text(deep)
    with pytest.raises(MotionGPT3Error, match="more than 1000 joints"):
        load(tmp_path / "deep.bvh")


def test_positions_too_large_to_compute(tmp_path: Path) -> None:
    path = save(invented(frames=1), tmp_path / "clip.bvh")
    lines = path.read_text().splitlines()
    lines[-1] = " ".join(["1e300"] * len(lines[-1].split()))
    path.write_text("\n".join(lines))
    with pytest.raises(MotionGPT3Error):
        load(path)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damaged_text_never_crashes(data: st.DataObject) -> None:
    words = MINIMAL.split()
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(words) - 1))
        junk = data.draw(
            st.sampled_from(["{", "}", "JOINT", "End", "OFFSET", "CHANNELS", "MOTION", "1e400", "-5", "é", "9" * 50])
        )
        words[place : place + data.draw(st.integers(0, 2))] = [junk]
        if len(words) < 2:
            break
    with contextlib.suppress(MotionGPT3Error):
        parse("\n".join(words), "damaged").positions()


@pytest.mark.slow
def test_a_long_file_is_read_in_pieces(tmp_path: Path) -> None:
    motion = invented(9, frames=4100, wildness=1.5)
    np.testing.assert_allclose(load(save(motion, tmp_path / "long.bvh")).joints, motion.joints, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("dialect", "mean"), [("mixamo", 0.02), ("cmu", 0.05)])
def test_other_dialects_come_back(mocap_dir: Path, tmp_path: Path, dialect: BvhDialect, mean: float) -> None:
    """Rigs whose hips, chest and shoulders are rigid lose a little; nothing jumps, and the feet stay on the floor."""
    for motion in recorded(mocap_dir, "test", 8):
        found = load(save(motion, tmp_path / "clip.bvh", bvh_dialect=dialect))
        assert len(found) == len(motion)
        assert np.linalg.norm(found.joints - motion.joints, axis=-1).mean() < mean, motion.name
        feet = [7, 8, 10, 11]
        assert np.linalg.norm(found.joints[:, feet] - motion.joints[:, feet], axis=-1).mean() < mean, motion.name


def test_dialects_have_their_programs_names(tmp_path: Path) -> None:
    motion = invented(0, wildness=0.3)
    names = {
        dialect: [joint.name for joint in parse(save(motion, path, bvh_dialect=dialect).read_text(), "x").joints]
        for dialect in ("ours", "mixamo", "cmu")
        for path in [tmp_path / "clip.bvh"]
    }
    kinds = {dialect: found.name for dialect, joints in names.items() if (found := match(joints))}
    assert kinds == {"ours": "motiongpt3", "mixamo": "Mixamo", "cmu": "CMU (cgspeed)"}
    assert {"mixamorig:Hips", "mixamorig:LeftToeBase"} <= set(names["mixamo"])
    with pytest.raises(MotionGPT3Error, match="ours, mixamo, cmu"):
        save(motion, tmp_path / "clip.bvh", bvh_dialect="unreal")  # type: ignore[arg-type]


TURNS = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "x": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
    "-x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "-y": np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
}
"""From our axes to those of a file, by the one that is up in it."""


@pytest.fixture(scope="module")
def walking(tmp_path_factory: pytest.TempPathFactory) -> Bvh:
    """A walk as Mixamo names it."""
    path = tmp_path_factory.mktemp("recording") / "walk.bvh"
    save(Motion(person(40, speed=1.0, arm=0.5), fps=30), path, bvh_dialect="mixamo")
    return parse(path.read_text(), "walk")


def as_read(text: str, folder: Path, **options: Any) -> Reading:
    (folder / "clip.bvh").write_bytes(text.encode())
    return read(folder / "clip.bvh", ReadOptions(**options))


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    up=st.sampled_from(sorted(TURNS)),
    scale=st.sampled_from([1.0, 0.01, 10.0, 1 / 2.54, 0.17]),
    order=st.sampled_from(["ZXY", "XYZ", "ZYX", "YXZ"]),
    habit=st.sampled_from(sorted(HABITS)),
)
def test_other_axes_units_and_habits_hold_the_same_motion(
    walking: Bvh, tmp_path: Path, up: str, scale: float, order: str, habit: str
) -> None:
    wanted = as_read(rewritten(walking), tmp_path).motion
    found = as_read(HABITS[habit](rewritten(walking, TURNS[up], scale, order)), tmp_path)
    np.testing.assert_allclose(found.motion.joints, wanted.joints, atol=0.003)
    assert found.motion.fps == 30
    assert not found.doubts or habit == "a frame too few"
    assert found.facts["up"].startswith(f"{up} (")
    assert any("turned to y up" in note for note in found.notes) == (up != "y")


def test_a_rest_pose_of_other_axes_than_the_motion(walking: Bvh, tmp_path: Path) -> None:
    """As converters of body models write it: z up places and a root that turns the rest pose, which is y up."""
    found = as_read(rewritten(walking, root=TURNS["z"]), tmp_path)
    np.testing.assert_allclose(found.motion.joints, as_read(rewritten(walking), tmp_path).motion.joints, atol=0.003)
    assert "--up y" in found.doubts[0]


@pytest.mark.parametrize("up", ["y", "z", "-x"])
def test_a_person_who_lies_stays_lying(walking: Bvh, tmp_path: Path, up: str) -> None:
    """Steps in the air, on the back: what was ahead is above."""
    values = walking.values.copy()
    values[:, :3] = 0, 0, 45  # legs swing as low
    lying = rewritten(replace(walking, values=values), TURNS[up], root=TURNS["-z"])
    found = as_read(lying, tmp_path)
    assert np.ptp(found.motion.joints[..., 1]) < 1.2
    assert found.facts["up"].startswith(f"{up} (")
    standing = as_read(lying, tmp_path, up={"y": "-z", "z": "y", "-x": "-z"}[up])
    assert np.ptp(standing.motion.joints[..., 1]) > 1.3


@pytest.mark.parametrize(
    ("said", "fps", "told"),
    [
        ("0.0333333", 30, ""), ("0.033", 30, "rounded"), ("0.0167", 60, "rounded"), ("0.008333", 120, ""),
        ("0.04", 25, ""), ("0.042", 24, "rounded"), ("0.016", 60, "rounded"), ("0.008", 120, "rounded"),
        ("0.03", 30, "rounded"), ("0.00833", 120, "rounded"), ("33", 30, "milliseconds"), ("17", 60, "milliseconds"),
        ("8", 120, "milliseconds"), ("0.05", 20, ""), ("0.01", 100, ""), ("0.02", 50, ""), ("0.0166667", 60, ""),
        ("0.008342", 119.875, ""), ("33.333", 30, "milliseconds"), ("16.67", 60, "milliseconds"),
        ("8.3333", 120, "milliseconds"), ("41.67", 24, "milliseconds"), ("40", 25, "milliseconds"),
        ("30", 30, "taken as 30 fps"), ("120", 120, "taken as 120 fps"), ("0", 30, "30 fps are assumed"),
        ("0.000000", 30, "30 fps are assumed"), ("0,0333333", 30, ""), ("1", 1, ""), ("0.1", 10, ""),
    ],
)  # fmt: skip
def test_frame_times(walking: Bvh, tmp_path: Path, said: str, fps: float, told: str) -> None:
    text = rewritten(walking).replace("Frame Time: 0.033333", f"Frame Time: {said}")
    reading = as_read(text, tmp_path)
    assert reading.motion.fps == pytest.approx(fps, rel=1e-3)
    notes = " ".join((*reading.notes, *reading.doubts))
    assert told in notes if told else not notes
    assert as_read(text, tmp_path, fps=50).motion.fps == 50


@pytest.mark.parametrize("said", ["-0.03", "0.00001", "5000"])
def test_frame_times_that_are_none_name_the_option(walking: Bvh, tmp_path: Path, said: str) -> None:
    text = rewritten(walking).replace("Frame Time: 0.033333", f"Frame Time: {said}")
    with pytest.raises(MotionGPT3Error, match="--fps-in"):
        as_read(text, tmp_path)
    assert as_read(text, tmp_path, fps=50).motion.fps == 50


@pytest.mark.slow
def test_a_root_without_places_stands_on_the_floor(walking: Bvh, tmp_path: Path) -> None:
    wanted = as_read(rewritten(walking), tmp_path).motion.joints
    values = walking.values.copy()
    values[:, :3] = 0
    for up in ("y", "z"):
        reading = as_read(rewritten(replace(walking, values=values), TURNS[up]), tmp_path)
        joints = reading.motion.joints
        assert joints[..., 1].min() == pytest.approx(0, abs=1e-6)
        np.testing.assert_allclose(joints - joints[:, :1], wanted - wanted[:, :1], atol=0.003)
        assert any("never moves" in note for note in reading.notes)


@pytest.mark.slow
def test_a_leading_t_pose_is_left_out_of_any_dialect(walking: Bvh, tmp_path: Path) -> None:
    still = np.zeros_like(walking.values[:1])
    still[:, :3] = walking.values[0, :3]
    frames = np.arange(len(walking.values))
    slow = np.stack([np.interp(np.arange(0, len(frames), 0.25), frames, column) for column in walking.values.T], 1)
    text = rewritten(replace(walking, values=np.concatenate([still, slow]), frame_time=1 / 120))
    reading = as_read(text, tmp_path)
    wanted = as_read(rewritten(replace(walking, values=slow, frame_time=1 / 120)), tmp_path)
    assert not wanted.notes
    np.testing.assert_allclose(reading.motion.joints, wanted.motion.joints, atol=1e-6)
    assert "left out" in " ".join(reading.notes)
    fast = replace(walking, values=np.concatenate([still, walking.values[::3]]), frame_time=1 / 10)
    assert len(as_read(rewritten(fast), tmp_path).motion) == len(walking.values[::3])


def test_a_blender_export_of_our_own_file_stands_again(tmp_path: Path) -> None:
    """Its exporter writes z up, in the units of the scene."""
    motion = Motion(person(30, speed=1.0), fps=30)
    bvh = parse(save(motion, tmp_path / "own.bvh").read_text(), "own")
    helpers = {i for i, joint in enumerate(bvh.joints) if not joint.is_end and len(joint.channels) < 3}
    assert not helpers
    found = as_read(rewritten(bvh, TURNS["z"], 0.01), tmp_path)
    np.testing.assert_allclose(found.motion.joints, motion.joints, atol=0.003)


def _schemes() -> dict[str, dict[str, str]]:
    """How programs call the 22 joints; a joint that a program's figures lack is left out."""

    def sided(trunk: str, limbs: str, sides: tuple[str, str], form: str = "{side}{limb}") -> dict[str, str]:
        names = dict(pair.split("=") for pair in trunk.split())
        words = dict(pair.split("=") for pair in limbs.split())
        for joint in HUMANML3D.names:
            if joint[1] == "_" and joint[2:] in words:
                names[joint] = form.format(side=sides[joint[0] == "r"], limb=words[joint[2:]])
        return names

    arms = "collar=Clavicle shoulder=UpperArm elbow=Forearm wrist=Hand"
    mixamo = "collar=Shoulder shoulder=Arm elbow=ForeArm wrist=Hand hip=UpLeg knee=Leg ankle=Foot"
    spine = "pelvis=Hips spine1=Spine spine2=Spine1 spine3=Spine2 neck=Neck head=Head"
    xsens = "pelvis=Hips spine1=Chest spine2=Chest2 spine3=Chest4 neck=Neck head=Head"
    left = ("Left", "Right")
    return {
        "Character1": {joint: f"Character1_{name}" for joint, name in OWN_NAMES.items()},
        "a namespace": {joint: f"hero|mixamorig:{name}" for joint, name in sided(spine, mixamo, left).items()},
        "3ds Max Biped": sided(
            "pelvis=Bip001_Pelvis spine1=Bip001_Spine spine2=Bip001_Spine1 spine3=Bip001_Spine2 neck=Bip001_Neck "
            "head=Bip001_Head", f"{arms} hip=Thigh knee=Calf ankle=Foot foot=Toe0", ("L", "R"), "Bip001 {side} {limb}",
        ),
        "Character Creator": sided(
            "pelvis=CC_Base_Hip spine1=CC_Base_Waist spine2=CC_Base_Spine01 spine3=CC_Base_Spine02 "
            "neck=CC_Base_NeckTwist01 head=CC_Base_Head",
            f"{arms} hip=Thigh knee=Calf ankle=Foot foot=ToeBase", ("L", "R"), "CC_Base_{side}_{limb}",
        ),
        "Xsens": sided(
            xsens, "collar=Shoulder shoulder=UpperArm elbow=Forearm wrist=Hand hip=UpperLeg knee=LowerLeg ankle=Foot "
            "foot=Toe", left,
        ),
        "100STYLE": sided(
            xsens, "collar=Collar shoulder=Shoulder elbow=Elbow wrist=Wrist hip=Hip knee=Knee ankle=Ankle foot=Toe",
            left,
        ),
        "OptiTrack": sided(
            "pelvis=Hip spine1=Ab spine3=Chest neck=Neck head=Head",
            "collar=Shoulder shoulder=UArm elbow=FArm wrist=Hand hip=Thigh knee=Shin ankle=Foot foot=Toe", ("L", "R"),
        ),
        "Rokoko": sided(
            "pelvis=Hips spine1=Spine1 spine2=Spine2 spine3=Spine4 neck=Neck head=Head",
            "collar=Shoulder shoulder=Arm elbow=ForeArm wrist=Hand hip=Thigh knee=Shin ankle=Foot foot=Toe", left,
        ),
        "Perception Neuron": sided(spine, mixamo, left),
        "Unreal 5": sided(
            "pelvis=pelvis spine1=spine_01 spine2=spine_03 spine3=spine_05 neck=neck_01 head=head",
            "collar=clavicle shoulder=upperarm elbow=lowerarm wrist=hand hip=thigh knee=calf ankle=foot foot=ball",
            ("_l", "_r"), "{limb}{side}",
        ),
        "Blender": sided(
            "pelvis=hips spine1=spine spine3=chest neck=neck head=head",
            "collar=shoulder shoulder=upper_arm elbow=forearm wrist=hand hip=thigh knee=shin ankle=foot foot=toe",
            (".L", ".R"), "{limb}{side}",
        ),
        "no collars, one spine": sided(
            "pelvis=root spine1=torso head=head", "shoulder=arm elbow=elbow wrist=hand hip=thigh knee=knee ankle=foot",
            left,
        ),
    }  # fmt: skip


def _renamed(text: str, names: dict[str, str]) -> str:
    """A BVH file of Mixamo's names under others; joints without a name are numbered, as helpers of no meaning."""
    others = {old: names.get(joint, f"x{number}") for number, (joint, old) in enumerate(OWN_NAMES.items())}
    return re.sub(
        r"(ROOT|JOINT) (?:mixamorig:)?(\w+)", lambda found: f"{found[1]} {others.get(found[2], found[2])}", text
    )


LIMBS = [(a, b) for leg in HUMANML3D.legs for a, b in pairwise(leg[:3])] + [
    (HUMANML3D.index(f"{side}{a}"), HUMANML3D.index(f"{side}{b}"))
    for side in ("l_", "r_") for a, b in (("shoulder", "elbow"), ("elbow", "wrist"))
]  # fmt: skip


@pytest.mark.parametrize("kind", _schemes())
def test_joints_are_found_whatever_the_program_calls_them(tmp_path: Path, kind: str) -> None:
    path, motion = tmp_path / "walk.bvh", Motion(person(30, speed=1.0), fps=30)
    save(motion, path, bvh_dialect="mixamo")
    wanted = load(path)
    path.write_text(_renamed(path.read_text(), _schemes()[kind]))
    found = load(path)
    for a, b in LIMBS:
        ours, theirs = (unit(each.joints[:, b] - each.joints[:, a]) for each in (wanted, found))
        np.testing.assert_allclose(theirs, ours, atol=1e-3)
    ways = [each.joints[-1, 0] - each.joints[0, 0] for each in (wanted, found)]
    np.testing.assert_allclose(*ways, atol=1e-2)


def test_bones_are_named_by_the_user(tmp_path: Path) -> None:
    path, motion = tmp_path / "walk.bvh", invented(4, 12, wildness=0.3)
    save(motion, path, bvh_dialect="mixamo")
    swapped = {joint: OWN_NAMES[{"l": "r", "r": "l"}[joint[0]] + joint[1:]] for joint in OWN_NAMES if joint[1] == "_"}
    reading = read(path, ReadOptions(bones={joint: f"mixamorig:{name}" for joint, name in swapped.items()}))
    assert reading.bones["l_knee"] == "mixamorig:RightLeg"
    with pytest.raises(MotionGPT3Error, match="has no bone 'Nose', which the map names for head"):
        read(path, ReadOptions(bones={"head": "Nose"}))
