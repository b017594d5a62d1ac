"""What finishing changes: the measures of a motion before and after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion import quality
from motiongpt3.motion.contacts import contacts, slides
from motiongpt3.motion.loop import kinks, tiled
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import heading, rotate

UNITS = quality.UNITS | {
    "contact_slide": "cm",
    "contact_slide_max": "cm",
    "travel": "m",
    "loop_pose": "cm",
    "loop_speed": "m/s",
    "loop_kink": "m/s",
}
"""Units of what `report` gives."""
Changes = dict[str, dict[str, float]]
"""By measure its values `before` and `after`."""


def changes(before: Sequence[Motion], after: Sequence[Motion]) -> Changes:
    """The mean of each measure of `report` over some motions, and over what became of them."""
    old, new = ([report(motion) for motion in motions] for motions in (before, after))
    return {name: {"before": _mean(name, old), "after": _mean(name, new)} for name in UNITS}


def report(motion: Motion) -> dict[str, float]:
    """Measures of one motion by name: all of `motion.quality.measure`, and

    - `contact_slide`, `contact_slide_max` (cm): how far toes get from where they stood down, over the contacts;
    - `travel` (m): from the first to the last pelvis along the floor;
    - `loop_pose` (cm): the joint that is farthest from its first place, in the last pose, seen from the person;
    - `loop_speed` (m/s): the same for the change of velocity when the motion begins again, from its last step to its
      first, which contains what the motion speeds up there;
    - `loop_kink` (m/s): how far that change lies from those on the frames before and after it, see `motion.loop.kinks`.
    """
    found = slides(motion, contacts(motion)) * 100
    joints = motion.joints.astype(np.float64)
    pose, step = (np.zeros((22, 3)),) * 2
    kink = kinks(tiled(joints, 2)[len(joints) - 3 : len(joints) + 2]) if len(joints) > 2 else np.zeros(0)
    if len(joints) > 1:
        first, last = (_seen(joints[at], joints[at] - joints[at, 0] * [1, 0, 1]) for at in (0, -1))
        begins, ends = (_seen(joints[at], joints[at + 1] - joints[at]) for at in (0, -2))
        pose, step = last - first, (ends - begins) * motion.fps
    return quality.measure(motion).as_dict() | {
        "contact_slide": float(found.mean()) if len(found) else 0.0,
        "contact_slide_max": float(found.max(initial=0)),
        "travel": float(np.linalg.norm((joints[-1, 0] - joints[0, 0])[[0, 2]])),
        "loop_pose": 100 * float(np.linalg.norm(pose, axis=-1).max()),
        "loop_speed": float(np.linalg.norm(step, axis=-1).max()),
        "loop_kink": float(kink.max(initial=0) * motion.fps),
    }


def _mean(name: str, reports: Sequence[dict[str, float]]) -> float:
    return float(np.mean([found[name] for found in reports]))


def _seen(pose: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors (22, 3) turned by the heading of a pose: as the person sees them."""
    return np.asarray(rotate(vectors, -float(heading(pose[None])[0])))
