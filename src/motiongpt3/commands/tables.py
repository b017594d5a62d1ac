"""Numbers as aligned text."""

from __future__ import annotations

from collections.abc import Sequence

UNITS = {
    "skate_speed": "cm/s",
    "slip_speed": "cm/s",
    "skate_ratio": "of frames",
    "penetration_mean": "mm",
    "penetration_max": "mm",
    "floating": "of frames",
    "jitter": "m/s³",
    "bone_variation": "mm",
    "max_speed": "m/s",
    "contact_slide": "cm",
    "contact_slide_max": "cm",
    "travel": "m",
    "loop_pose": "cm",
    "loop_speed": "m/s",
}
"""Units of the fields of `motion.quality.Quality` and of `motion.finish.report`."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in [head, *rows]
    )
