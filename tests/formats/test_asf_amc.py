"""ASF/AMC: an independent reading, finding the skeleton, and hostile pairs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import aligned_error, recording

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load
from motiongpt3.formats.asf_amc import bone_ends, find_asf, parse_amc, parse_asf
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.skeleton import HUMANML3D

PAIRS = {"cmu_09_01": "cmu_09", "cmu_49_06": "cmu_49"}


@pytest.mark.parametrize("name", PAIRS)
def test_positions_equal_an_independent_readers(samples_dir: Path, name: str) -> None:
    wanted = json.loads((samples_dir / "reference.json").read_text())[f"{name}.amc"]
    skeleton = parse_asf((samples_dir / wanted["skeleton"]).read_text(), name)
    values = parse_amc((samples_dir / f"{name}.amc").read_text(), skeleton, name)
    found = bone_ends(skeleton, values, list(wanted["bone_ends"]))
    assert len(found) == wanted["frames"]
    ends = np.array(list(wanted["bone_ends"].values())).transpose(1, 0, 2)
    np.testing.assert_allclose(found[wanted["at"]], ends, atol=1e-4)


@pytest.mark.parametrize("name", PAIRS)
def test_they_become_people_of_our_size(samples_dir: Path, name: str) -> None:
    motion = load(samples_dir / f"{name}.amc")
    assert motion.fps == 120
    lengths = bone_vectors(torch.tensor(motion.joints)).norm(dim=-1).numpy()
    np.testing.assert_allclose(lengths, np.broadcast_to(HUMANML3D.bone_lengths, lengths.shape), atol=1e-4)


def test_the_unit_of_the_file_makes_metres(samples_dir: Path) -> None:
    skeleton = parse_asf((samples_dir / "cmu_09.asf").read_text(), "09")
    thigh = next(bone for bone in skeleton.bones if bone.name == "lfemur")
    assert np.linalg.norm(thigh.vector) * skeleton.metres_per_unit == pytest.approx(0.4258, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_they_equal_the_data_we_train_on(samples_dir: Path, mocap_dir: Path, name: str) -> None:
    wanted = recording(mocap_dir, name.upper())
    found = load(samples_dir / f"{name}.amc").resample(20)
    assert len(found) == len(wanted)
    assert aligned_error(found.joints, wanted.joints) < 0.02


def test_where_the_skeleton_is_looked_for(tmp_path: Path) -> None:
    amc = tmp_path / "09_01.amc"
    amc.touch()
    with pytest.raises(MotionGPT3Error, match=r"09_01\.amc needs its skeleton: put 09_01\.asf or 09\.asf"):
        load_text(amc, "1\n")
    (tmp_path / "other.ASF").touch()
    assert find_asf(amc).name == "other.ASF"
    (tmp_path / "another.asf").touch()
    with pytest.raises(MotionGPT3Error, match="needs its skeleton"):
        find_asf(amc)
    (tmp_path / "09.asf").touch()
    assert find_asf(amc).name == "09.asf"
    (tmp_path / "09_01.asf").touch()
    assert find_asf(amc).name == "09_01.asf"


def load_text(path: Path, text: str) -> None:
    path.write_text(text)
    load(path)


ASF = """:version 1.10
:units
  length 0.45
  angle deg
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
  begin
    name thigh
    direction 0 -1 0
    length 4
    axis 0 0 20 XYZ
    dof rx rz
    limits (-10 10)
           (-10 10)
  end
:hierarchy
  begin
    root thigh
  end
"""
AMC = "#!comment\n:FULLY-SPECIFIED\n:DEGREES\n1\nroot 1 2 3 0 0 0\nthigh 0 0\n2\nroot 0 0 0 0 90 0\nthigh 0 90\n"


def test_a_minimal_pair() -> None:
    skeleton = parse_asf(ASF, "x")
    found = bone_ends(skeleton, parse_amc(AMC, skeleton, "x"), ["root", "thigh"])
    np.testing.assert_allclose(found, [[[1, 2, 3], [1, -2, 3]], [[0, 0, 0], [0, 0, -4]]], atol=1e-9)


def test_radians_are_followed() -> None:
    skeleton = parse_asf(ASF, "x")
    text = AMC.replace(":DEGREES", ":RADIANS").replace("90", str(np.pi / 2))
    found = bone_ends(skeleton, parse_amc(text, skeleton, "x"))
    np.testing.assert_allclose(found[1, 1], [0, 0, -4], atol=1e-9)


BAD_ASF = {
    "no skeleton": ("hello", "not an ASF skeleton"),
    "cycle": (ASF.replace("root thigh", "root thigh\n thigh thigh"), "unknown or a cycle"),
    "unknown child": (ASF.replace("root thigh", "root shin"), "unknown or a cycle"),
    "unknown parent": (ASF.replace("root thigh", "shin thigh"), "unknown or a cycle"),
    "twice": (ASF.replace("  begin\n", "begin\nname thigh\ndirection 1 0 0\nlength 1\nbegin\n", 1), "appears twice"),
    "no name": (ASF.replace("name thigh", ""), "has no name"),
    "bad dof": (ASF.replace("dof rx rz", "dof rx rx"), "impossible degrees of freedom"),
    "length dof": (ASF.replace("dof rx rz", "dof l"), "impossible degrees of freedom"),
    "bad axis": (ASF.replace("20 XYZ", "20 XXZ"), "axis order"),
    "no direction": (ASF.replace("direction 0 -1 0", ""), "needs 3 numbers"),
    "nan": (ASF.replace("length 4", "length nan"), "needs 1 numbers"),
    "huge": (ASF.replace("length 4", "length 1e300"), "needs 1 numbers"),
    "no length": (ASF.replace("length 0.45", "length 0"), "must be above 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ASF)
def test_bad_skeletons_end_in_one_line(tmp_path: Path, case: str) -> None:
    text, message = BAD_ASF[case]
    (tmp_path / "09.asf").write_text(text)
    with pytest.raises(MotionGPT3Error, match=message) as caught:
        load_text(tmp_path / "09_01.amc", AMC)
    assert "\n" not in str(caught.value)


BAD_AMC = {
    "no frames": (":DEGREES\n", "has no frames"),
    "unknown bone": (AMC.replace("thigh 0 0", "shin 0 0"), "does not fit its ASF"),
    "too many values": (AMC.replace("thigh 0 0", "thigh 0 0 0"), "does not fit its ASF"),
    "bone twice": (AMC.replace("thigh 0 0", "thigh 0 0\nthigh 0 0"), "does not fit its ASF"),
    "bone missing": (AMC.replace("thigh 0 0\n", ""), "frame 1 has no values for thigh"),
    "cut short": (AMC[: AMC.rindex("thigh")], "frame 2 has no values for thigh"),
    "values before frames": ("root 1 2 3 0 0 0\n", "does not fit its ASF"),
    "letters": (AMC.replace("thigh 0 0", "thigh x 0"), "could not convert"),
    "NaN": (AMC.replace("thigh 0 0", "thigh nan 0"), "NaN, infinite"),
    "huge": (AMC.replace("thigh 0 0", "thigh 1e300 0"), "impossibly large"),
    "unknown skeleton": (AMC, "are not CMU's: give a BVH file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_AMC)
def test_bad_motions_end_in_one_line(tmp_path: Path, case: str) -> None:
    (tmp_path / "09.asf").write_text(ASF)
    text, message = BAD_AMC[case]
    with pytest.raises(MotionGPT3Error, match=message) as caught:
        load_text(tmp_path / "09_01.amc", text)
    assert "\n" not in str(caught.value)


def test_another_subjects_skeleton_is_noticed_only_if_it_differs(samples_dir: Path, tmp_path: Path) -> None:
    shutil.copy(samples_dir / "cmu_09_01.amc", tmp_path / "clip.amc")
    text = (samples_dir / "cmu_49.asf").read_text().replace("dof rx ry rz", "dof rx ry", 1)
    (tmp_path / "only.asf").write_text(text)
    with pytest.raises(MotionGPT3Error, match="another subject's"):
        load(tmp_path / "clip.amc")
