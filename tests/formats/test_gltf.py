"""Binary glTF: keys as other programs set them, and files that are damaged, endless or lie."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import invented
from glb_files import changed, joint_places
from glb_reader import parse
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs import rig

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import glb as glb_format
from motiongpt3.formats import gltf as gltf_format
from motiongpt3.formats import load, save
from motiongpt3.formats.glb import load_character
from motiongpt3.formats.gltf import pack
from motiongpt3.motion.motion import Motion


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
    np.testing.assert_allclose(found.joints, joint_places(parse(path.read_bytes()), np.arange(20) / 20), atol=1e-5)


def test_keys_set_by_hand_are_sampled(tmp_path: Path) -> None:
    """Two keys a second that nobody calls the frame rate."""
    path = rekeyed(tmp_path, invented(3, 20), np.arange(4) / 2, np.array([0, 6, 12, 19]))
    found = load(path)
    assert (len(found), found.fps) == (31, 20)
    np.testing.assert_allclose(found.joints, joint_places(parse(path.read_bytes()), np.arange(31) / 20), atol=1e-5)


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
    np.testing.assert_allclose(found.joints, joint_places(glb, glb.times), atol=1e-5)
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
        case "no figure":
            for node in document["nodes"]:
                node.pop("name")
                node.pop("translation", None)


DAMAGES = {
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
    "a far place": "too large to compute", "no figure": "no bone was found for",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_one_line(tmp_path: Path, name: str) -> None:
    path = changed(tmp_path, lambda document: damage(document, name))
    with pytest.raises(MotionGPT3Error, match=DAMAGES[name]) as caught:
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


@pytest.mark.slow
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
        (gltf_format, "MAX_KEYS", 100, "more than 100 keys"),
        (gltf_format, "MAX_CHAIN", 20, "20 at most"),
        (gltf_format, "MAX_FRAMES", 9, "10 keys; 1 to 9"),
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


@pytest.mark.slow
def test_a_long_chain_of_nodes(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        count = len(document["nodes"])
        document["nodes"] += [{"children": [count + k + 1]} for k in range(5000)] + [{"children": [0]}]

    with pytest.raises(MotionGPT3Error, match="hang from 50"):
        load(changed(tmp_path, change))
