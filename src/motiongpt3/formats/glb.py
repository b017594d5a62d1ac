"""GLB files: the mannequin that plays a motion (`write`), the motion of such a file (`read`), and motions on a user's
own character: a rigged GLB in, the same GLB with one more animation out (`load_character`, `write_character`).

What the container is made of is in `formats.gltf`, which says why it is our own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch

from motiongpt3.characters.bone_names import OWN, FoundBones, RestingRig, find, place_joints
from motiongpt3.characters.mannequin import NODES, mannequin, rest_places, rig_offsets
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import Reading, ReadOptions
from motiongpt3.formats import gltf as container
from motiongpt3.formats.gltf import Buffer, Gltf, Nodes, continuous_quaternions, padded
from motiongpt3.motion.kinematics import Fitted, fit_t_pose
from motiongpt3.motion.motion import Motion, require_humanml3d
from motiongpt3.motion.poses import heading, yaw_of
from motiongpt3.motion.retarget import RestPose, RiggedMotion, to_rig, to_skeleton
from motiongpt3.motion.skeleton import HUMANML3D, Float32, Float64, nearest_above
from motiongpt3.motion.upright import find_upright, on_floor
from motiongpt3.serialization import atomic_path

MAX_SECONDS = 1e6
"""A longer clip's times would lose their frames in 32 bits."""
MAX_TEXT = 4 * 2**20
"""Bytes of the JSON of a file that is read as a motion: ours have 30,000, characters a million."""
MAX_LETTERS = 1000
"""Letters of a name or caption: a long sentence has 200."""
_NAMELESS = "motion"
"""What the animation of a motion without a name is called."""
_COLOUR = (0.60, 0.64, 0.70, 1.0)
"""A bluish grey, chosen by eye."""


def read(path: Path, options: ReadOptions) -> Reading:
    """Read an animation of a GLB or VRM file as the 22 joints, at the rate at which its keys come.

    Files that `write` wrote come back as they were, with name and caption. Other figures (which bone is which joint,
    `characters.bone_names` tells) get HumanML3D's bone lengths with every bone's direction kept. Of several animations
    the first is read in which the figure moves, unless one is named.

    Raises:
        MotionGPT3Error: no GLB, damaged, compressed, too large; no skin or several figures; bones that are not found;
            no such animation or keys that cannot be read.
    """
    gltf = container.read(path, MAX_TEXT)
    nodes = container.nodes_of(gltf)
    skin, places = container.skin_joints(gltf, nodes), nodes.worlds()[:, :3, 3]
    labels = _vrm_labels(gltf)
    named = {*skin, *labels.values()}  # a mesh may be called as a bone is
    names = [name if node in named else "" for node, name in enumerate(nodes.names)]
    bones = place_joints(RestingRig(names, nodes.parents, places, skin), options.bones, labels)
    ours = bones.kind == OWN.name
    links = container.chain(gltf, nodes, bones.nodes)
    played, chosen = container.read_animation(gltf, set(links), options.animation)
    seconds, fps = played.frames()
    with np.errstate(all="ignore"):
        found = bones.assemble(container.joint_positions(nodes, links, played, bones.nodes, seconds))
        rest = bones.assemble(places[None, bones.nodes])[0]
    if not (np.abs(found) < 1e9).all():
        raise MotionGPT3Error(f"{path.name}: joint positions are too large to compute")
    up = options.up
    if ours and up == "auto" and find_upright(rest[None], rest).up == "y":  # then whatever is played is as we wrote it
        up = "y"
    stands = find_upright(found, rest, up, options.unit, "m" if ours else None, trusted=ours)
    caption, name = played.extras.get("caption"), _clean(played.name)
    placed, raised = (stands.placed(found), ()) if ours else on_floor(to_skeleton(stands.turned(found)))
    motion = Motion(
        placed,
        fps=options.fps or fps,
        caption=(_clean(caption) or None) if isinstance(caption, str) else None,
        name=path.stem if name in ("", _NAMELESS) else name,
    )
    listed = container.animation_names(gltf)
    notes = (*bones.notes, *chosen, *stands.notes, *raised)
    facts = {**stands.facts, **({"animations": listed} if len(listed) > 1 else {})}
    return Reading(motion, notes, (*bones.doubts, *stands.doubts), bones.names, facts)


def write(motion: Motion, path: Path) -> None:
    """Write a GLB file: y up, metres, T-pose at rest, one animation with the motion's frames as keys.

    The joints have the names and the hierarchy of our BVH files (`motiongpt3.characters.mannequin`); the hips move and
    turn, all other joints turn. A bone of the file has one length: the mean over the clip. The animation is called as
    the motion is; its `extras` hold the caption and the frames per second. The same motion gives the same bytes.

    Raises:
        MotionGPT3Error: another skeleton than HumanML3D's, a clip of more than `MAX_SECONDS`, or the folder cannot be
            written.
    """
    require_humanml3d(motion, "GLB")
    data = _document(motion, fit_t_pose(motion))
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _document(motion: Motion, fitted: Fitted) -> bytes:
    """The bytes of the file."""
    places = rest_places(fitted.rest)
    mesh, buffer = mannequin(places), Buffer()
    bind = np.tile(np.eye(4, dtype=np.float32), (len(NODES), 1, 1))
    bind[:, 3, :3] = -places[[node.joint for node in NODES]]  # columns come first in glTF
    short = len(mesh.positions) < 2**16 - 1
    primitive = {
        "attributes": {
            "POSITION": buffer.add(mesh.positions, container.VERTICES, bounds=True),
            "NORMAL": buffer.add(mesh.normals, container.VERTICES),
            "JOINTS_0": buffer.add(mesh.nodes, container.VERTICES),
            "WEIGHTS_0": buffer.add(mesh.weights, container.VERTICES),
        },
        "indices": buffer.add(mesh.triangles.reshape(-1, 1).astype("<u2" if short else "<u4"), container.INDICES),
        "material": 0,
    }
    material = {
        "name": "Mannequin",
        "pbrMetallicRoughness": {"baseColorFactor": list(_COLOUR), "metallicFactor": 0.0, "roughnessFactor": 0.7},
    }
    skin = {
        "name": "Armature",
        "skeleton": 0,
        "joints": list(range(len(NODES))),
        "inverseBindMatrices": buffer.add(bind.reshape(-1, 16)),
    }
    turning = [i for i, node in enumerate(NODES) if node.turns >= 0]
    rotations = continuous_quaternions(fitted.rotations[:, [NODES[i].turns for i in turning]])
    tracks = [(0, "translation", fitted.root.astype(np.float32))]
    tracks += [(i, "rotation", rotations[:, k]) for k, i in enumerate(turning)]
    document = {
        "asset": {"version": "2.0", "generator": "motiongpt3"},
        "scene": 0,
        "scenes": [{"name": "Scene", "nodes": [0, len(NODES)]}],
        "nodes": [*_rig_nodes(fitted, places[0]), {"name": "Mannequin", "mesh": 0, "skin": 0}],
        "meshes": [{"name": "Mannequin", "primitives": [primitive]}],
        "materials": [material],
        "skins": [skin],
        "animations": [_animation(motion, tracks, buffer)],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    return container.pack(document, buffer.data)


def _rig_nodes(fitted: Fitted, root: Float64) -> list[dict[str, Any]]:
    """The JSON of the rig in its rest pose, whose hips are at (3,) `root`."""
    found = []
    for i, (node, offset) in enumerate(zip(NODES, rig_offsets(fitted), strict=True)):
        entry: dict[str, Any] = {"name": node.name}
        children = [j for j, other in enumerate(NODES) if other.parent == i]
        if children:
            entry["children"] = children
        if not node.is_helper:
            entry["translation"] = (offset if i else root).astype(np.float32).tolist()
        found.append(entry)
    return found


def _animation(motion: Motion, tracks: list[tuple[int, str, Float32]], buffer: Buffer) -> dict[str, Any]:
    """The JSON of an animation that plays a motion, with its name, caption and frames per second."""
    if motion.seconds > MAX_SECONDS:
        raise MotionGPT3Error(f"{motion.seconds:.3g} seconds are too long for a GLB file; is {motion.fps:g} fps right?")
    times = (np.arange(len(motion)) / motion.fps).astype(np.float32)
    extras: dict[str, Any] = {"fps": motion.fps}
    if motion.caption:
        extras["caption"] = _clean(motion.caption)
    return buffer.add_animation(_clean(motion.name or "") or _NAMELESS, times, tracks) | {"extras": extras}


def _clean(text: str) -> str:
    """Text that any JSON reader takes: no half characters, no control characters, not endless."""
    whole = text[:MAX_LETTERS].encode("utf-8", errors="replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else " " for letter in whole).strip()


SUFFIXES = (".glb", ".vrm")
"""Of characters; a VRM file is a GLB that says which bone is which."""


@dataclass(frozen=True)
class Character:
    """A rigged GLB file and what was found in it.

    Attributes:
        gltf: its two parts.
        nodes: its tree.
        worlds: (N, 4, 4) global matrices of the nodes at rest.
        bones: which nodes are our joints.
        rest: the rest pose of these.
        posed: bones that the file holds in another pose than that in which its skin was bound; none as a rule.
    """

    gltf: Gltf
    nodes: Nodes
    worlds: Float64
    bones: FoundBones
    rest: RestPose
    posed: frozenset[int]


def load_character(path: str | Path, bones: dict[str, str] | None = None) -> Character:
    """Read a character: a .glb or .vrm file with a skin.

    Args:
        path: the file.
        bones: {our joint: name of its bone}, for what is not found by itself
            (`motiongpt3.characters.bone_names.load_map`).

    Raises:
        MotionGPT3Error: no such file, damaged or compressed; no skin or skins of several figures; bones missing, scaled
            unevenly or lying down.
    """
    source = Path(path)
    if source.suffix.lower() not in SUFFIXES:
        raise MotionGPT3Error(f"a character is a .glb or .vrm file, not {source.name}")
    gltf = container.read(source)
    stored = container.nodes_of(gltf)
    joints = container.skin_joints(gltf, stored)
    nodes = container.bind_pose(gltf, stored)
    worlds = nodes.worlds()
    found = find(RestingRig(nodes.names, nodes.parents, worlds[:, :3, 3], joints), bones, _vrm_labels(gltf))
    places = np.full((len(HUMANML3D), 3), np.nan)
    for joint, node in found.nodes.items():
        axes, places[HUMANML3D.index(joint)] = worlds[node, :3, :3], worlds[node, :3, 3]
        scale = np.linalg.norm(axes, axis=0)
        if not scale.min() > 0 or scale.max() > 1.02 * scale.min() or np.linalg.det(axes) <= 0:
            raise MotionGPT3Error(
                f"{source.name}: the bone {nodes.names[node]!r} ({joint}) is scaled unevenly: apply scale"
            )
    posed = frozenset(joints if nodes is not stored else ())
    return Character(gltf, nodes, worlds, found, RestPose(places, _floor(places)), posed)


def _vrm_labels(gltf: Gltf) -> dict[str, int]:
    """{VRM's name of a bone: node} where the file has VRM's extension, of version 0 (a list) or 1 (an object)."""

    def inside(value: Any, key: str) -> Any:
        return value.get(key) if isinstance(value, dict) else None

    found: dict[str, int] = {}
    for key in ("VRM", "VRMC_vrm"):
        listed = inside(inside(inside(gltf.document.get("extensions"), key), "humanoid"), "humanBones")
        pairs: Iterable[tuple[Any, Any]] = listed.items() if isinstance(listed, dict) else ()
        if isinstance(listed, list):
            pairs = [(inside(entry, "bone"), entry) for entry in listed]
        for label, entry in pairs:
            node = inside(entry, "node")
            if type(node) is int and 0 <= node < len(gltf.items("nodes")) and isinstance(label, str):
                found[label] = node
    return found


def _floor(places: Float64) -> float:
    """Height of the floor under a rest pose: 0 where the feet are near it, else where the lowest joint is."""
    feet = places[list(HUMANML3D.contacts), 1]
    lowest, size = float(np.nanmin(feet)), float(np.nanmax(places[:, 1]) - np.nanmin(feet))
    return 0.0 if -0.02 * size < lowest < 0.12 * size else lowest


def write_character(motion: Motion, character: Character, path: str | Path, root_motion: bool = False) -> RiggedMotion:
    """Put a motion on a character and write the file again, with the motion as its first animation.

    Meshes, materials and other animations stay as they are. Bones that are none of our joints (fingers, hair) keep
    their rest pose. How well the result fits is in `error` and `errors` of what is returned. With `root_motion` the
    topmost bone above the pelvis, which stands on the floor, goes and turns with the figure, as Unreal wants it;
    otherwise it stays where it is and the pelvis goes.

    Raises:
        MotionGPT3Error: another skeleton than HumanML3D's, root motion without such a bone, or the file cannot be
            written.
    """
    require_humanml3d(motion, "GLB")
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise MotionGPT3Error(f"a character is written as .glb or .vrm, not {target.name}")
    played = to_rig(motion, character.rest)
    data = _character_document(motion, character, played, _root_bone(character) if root_motion else None)
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)
    return played


def _character_document(motion: Motion, character: Character, played: RiggedMotion, root: int | None) -> bytes:
    gltf, rest = character.gltf, character.nodes
    buffers = [dict(entry) for entry in gltf.items("buffers")]
    if buffers and "uri" in buffers[0]:
        raise MotionGPT3Error(f"{gltf.name} keeps its data in other files: export it as one .glb file")
    length = buffers[0].get("byteLength") if buffers else 0
    if type(length) is not int or not 0 <= length <= len(gltf.binary):
        raise MotionGPT3Error(f"{gltf.name} is damaged: its buffer is longer than its data")
    buffer = Buffer(bytearray(padded(gltf.binary[:length])), [*gltf.items("bufferViews")], [*gltf.items("accessors")])
    entry = _animation(motion, _tracks(character, played, root), buffer)
    nodes = [dict(node) for node in gltf.items("nodes")]
    for node in sorted({*character.bones.nodes.values(), *character.posed}):
        matrix = nodes[node].pop("matrix", None)  # An animated node must not have one.
        if matrix is not None or node in character.posed:
            turned = continuous_quaternions(torch.from_numpy(rest.rotations[node])[None, None])[0, 0]
            nodes[node]["translation"] = rest.translations[node].tolist()
            nodes[node]["rotation"] = turned.tolist()
            nodes[node]["scale"] = rest.scales[node].tolist()
    buffers[:1] = [{**(buffers[0] if buffers else {}), "byteLength": len(buffer.data)}]
    document = gltf.document | {
        "nodes": nodes,
        "animations": [entry, *gltf.items("animations")],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": buffers,
    }
    return container.pack(document, buffer.data)


def _root_bone(character: Character) -> int:
    """The topmost bone above the pelvis."""
    skin = set(container.skin_joints(character.gltf, character.nodes))
    node, above = character.nodes.parents[character.bones.nodes["pelvis"]], []
    while node >= 0:
        if node in skin or character.nodes.names[node].lower() == "root":
            above.append(node)
        node = character.nodes.parents[node]
    if not above:
        raise MotionGPT3Error("the rig has no bone above the pelvis that could carry the way: add one, called root")
    return above[-1]


def _tracks(character: Character, played: RiggedMotion, root: int | None) -> list[tuple[int, str, Float32]]:
    """Rotations of the bones relative to their parents, and the place of the pelvis; or of a root that goes with it."""
    parents, worlds = character.nodes.parents, character.worlds
    frames = len(played.joints)
    lengths = np.maximum(np.linalg.norm(worlds[:, :3, :3], axis=1), 1e-12)
    resting = worlds[:, :3, :3] / lengths[:, None]
    turned = {
        node: played.turns[:, HUMANML3D.index(joint)] @ torch.from_numpy(resting[node])
        for joint, node in character.bones.nodes.items()
    }
    turns, ground = torch.eye(3, dtype=torch.float64).repeat(frames, 1, 1), np.zeros((frames, 3))
    if root is not None:
        yaw = heading(played.joints) - yaw_of(character.rest.places)
        turns = roma.rotvec_to_rotmat(torch.from_numpy(yaw[:, None] * np.array([0.0, 1, 0])))
        at = worlds[root, :3, 3]
        went = played.joints[:, 0] * [1, 0, 1] + at * [0, 1, 0]
        ground = went - (turns.numpy() @ at)
    local = []
    for node in turned:
        parent, above = parents[node], nearest_above(node, parents, turned)
        still = turns @ torch.from_numpy(resting[parent] if parent >= 0 else np.eye(3))
        if above >= 0:  # What lies between two of our joints goes along with the upper one.
            still = turned[above] @ torch.from_numpy(resting[above].T @ resting[parent])
        local.append(still.transpose(-1, -2) @ turned[node])
    quaternions = continuous_quaternions(torch.stack(local, dim=1))
    pelvis = character.bones.nodes["pelvis"]
    frame = worlds[parents[pelvis]] if parents[pelvis] >= 0 else np.eye(4)
    place = played.joints[:, 0] + [0, character.rest.floor, 0]
    moved = _under(frame, ((place - ground)[:, None] @ turns.numpy())[:, 0])
    tracks = [(pelvis, "translation", moved)]
    tracks += [(node, "rotation", quaternions[:, i]) for i, node in enumerate(turned)]
    if root is not None:
        carrier = worlds[parents[root]] if parents[root] >= 0 else np.eye(4)
        axes = torch.from_numpy(resting[parents[root]].T if parents[root] >= 0 else np.eye(3))
        turning = continuous_quaternions((axes @ turns @ torch.from_numpy(resting[root]))[:, None])[:, 0]
        tracks += [(root, "translation", _under(carrier, went)), (root, "rotation", turning)]
    return tracks


def _under(frame: Float64, places: Float64) -> Float32:
    """Places (T, 3) as they are in a frame (4, 4)."""
    whole = np.concatenate([places, np.ones((len(places), 1))], axis=1)
    found: Float32 = np.linalg.solve(frame, whole.T).T[:, :3].astype(np.float32)
    return found
