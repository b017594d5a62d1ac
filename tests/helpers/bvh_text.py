"""BVH files as other programs write them: other axes, units, orders of angles, and habits of text."""

from __future__ import annotations

import numpy as np
import roma
import torch

from motiongpt3.formats.bvh import Bvh

Matrix = np.ndarray


def rewritten(
    bvh: Bvh, axes: Matrix | None = None, scale: float = 1.0, order: str = "ZXY", root: Matrix | None = None
) -> str:
    """The text of a recording in other axes and units.

    Args:
        bvh: whose root has three positions and three angles, and whose other joints have three angles each.
        axes: (3, 3) a turn from its axes to those of the text, offsets included.
        scale: units of the text in one unit of the recording.
        order: of the angles.
        root: (3, 3) a further turn of the whole motion, which leaves the offsets alone.
    """
    axes, root = (np.eye(3) if turn is None else turn for turn in (axes, root))
    lines, columns = ["HIERARCHY"], []
    children = [[i for i, joint in enumerate(bvh.joints) if joint.parent == k] for k in range(len(bvh.joints))]

    def write(at: int, indent: str) -> None:
        joint = bvh.joints[at]
        kind = "ROOT" if joint.parent < 0 else "JOINT"
        lines.append(f"{indent}End Site" if joint.is_end else f"{indent}{kind} {joint.name}")
        offset = axes @ joint.offset * scale
        lines.extend([indent + "{", f"{indent}\tOFFSET {' '.join(f'{value:.7f}' for value in offset)}"])
        if not joint.is_end:
            places = "Xposition Yposition Zposition " if joint.parent < 0 else ""
            angles = " ".join(f"{axis}rotation" for axis in order)
            lines.append(f"{indent}\tCHANNELS {len(places.split()) + 3} {places}{angles}")
            turning = [joint.first + k for k, (_, turns) in enumerate(joint.channels) if turns]
            turns = roma.euler_to_rotmat(joint.order, torch.from_numpy(bvh.values[:, turning]), degrees=True).numpy()
            turns = axes @ (root @ turns if joint.parent < 0 else turns) @ axes.T
            if places:
                moving = {axis: joint.first + k for k, (axis, turn) in enumerate(joint.channels) if not turn}
                columns.append(bvh.values[:, [moving[0], moving[1], moving[2]]] @ (axes @ root).T * scale)
            columns.append(roma.rotmat_to_euler(order, torch.from_numpy(turns), degrees=True).numpy())
        for child in children[at]:
            write(child, indent + "\t")
        lines.append(indent + "}")

    write(0, "")
    rows = [" ".join(f"{value:.6f}" for value in row) for row in np.concatenate(columns, axis=1)]
    timing = ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {bvh.frame_time:.6f}"]
    return "\n".join([*lines, *timing, *rows]) + "\n"


def with_commas(text: str) -> str:
    """Decimal commas, as programs write them on computers set to German or French."""
    return text.replace(".", ",")


def _commas_after(text: str, start: int) -> str:
    row = text.index("\n", start)
    return text[:row] + text[row:].replace(" ", ", ")


HABITS = {
    "plain": lambda text: text,
    "decimal commas": with_commas,
    "end of file of DOS": lambda text: text + "\x1a",
    "Windows lines": lambda text: text.replace("\n", "\r\n"),
    "lines of old Macs": lambda text: text.replace("\n", "\r"),
    "byte order mark": lambda text: "\ufeff" + text,
    "tabs": lambda text: text.replace(" ", "\t"),
    "comments": lambda text: "# by hand\n// twice\n" + text.replace("MOTION", "# moves\nMOTION ; here it moves"),
    "a line before": lambda text: "Written by a program, 3 May\n\n" + text,
    "small letters": lambda text: text.replace("HIERARCHY", "Hierarchy").replace("MOTION", "Motion"),
    "capitals": lambda text: text.replace("Frames:", "FRAMES :").replace("Frame Time:", "FRAME TIME:"),
    "a frame too few": lambda text: text.replace("Frames: ", "Frames: 1"),
    "commas between values": lambda text: _commas_after(text, text.index("Frame Time")),
}
"""{what a file does otherwise: how}."""
