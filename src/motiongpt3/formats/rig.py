"""The rig of the files for other programs: joints under Mixamo's names, and helpers where several bones start."""

from __future__ import annotations

from dataclasses import dataclass

from motiongpt3.formats.dialects import OWN_HELPERS, OWN_NAMES
from motiongpt3.motion.skeleton import HUMANML3D


@dataclass(frozen=True)
class RigNode:
    """A joint of the written hierarchy.

    Attributes:
        name: Mixamo's, or CMU's for a helper.
        parent: index in `NODES`, -1 for the root.
        joint: which of the 22 joints it lies at.
        turns: which of the 22 bones its rotation is; -1 for none.
        is_helper: whether it lies where its parent does.
    """

    name: str
    parent: int
    joint: int
    turns: int
    is_helper: bool = False


def _hierarchy(joint: int, parent: int, found: list[RigNode]) -> None:
    """Append the joint and all below it. A joint with one child turns that child's bone; at a branch helpers do."""
    children = [child for child, above in enumerate(HUMANML3D.parents) if above == joint]
    turns = 0 if joint == 0 else children[0] if len(children) == 1 else -1
    found.append(RigNode(OWN_NAMES[HUMANML3D.names[joint]], parent, joint, turns))
    own = len(found) - 1
    for child in children:
        above = own
        if len(children) > 1:
            found.append(RigNode(OWN_HELPERS[HUMANML3D.names[child]], own, joint, child, is_helper=True))
            above = len(found) - 1
        _hierarchy(child, above, found)


def _all_nodes() -> tuple[RigNode, ...]:
    found: list[RigNode] = []
    _hierarchy(0, -1, found)
    return tuple(found)


NODES = _all_nodes()
"""Parents first. Where several bones start at one joint, helpers without length turn each on its own, because hips
and spine are not rigid with one another in real data."""
