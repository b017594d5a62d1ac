"""`motiongpt3 export`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motiongpt3.commands.finishing import add_finish_options, changes, changes_table, finished
from motiongpt3.commands.options import Parser, add_format_options, add_output_option, output_files, writable
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load, readable_suffixes, save, suffix_of
from motiongpt3.motion.motion import Motion

EXAMPLES = """
  motiongpt3 export walk.npz -o walk.glb -o walk.mp4
  motiongpt3 export walk.bvh --fix-feet --loop --in-place --fps 30 -o cycle.bvh --bvh-dialect mixamo
  motiongpt3 export walk.npz -o walk.smpl.npz          SMPL-shaped poses, as in AMASS
  motiongpt3 export walk.npz --fbx walk.fbx            by Blender, where it is installed
"""


def export(argv: Sequence[str]) -> int:
    """A motion file in other formats."""
    parser = Parser("export", "Write a motion file in other formats, finished if asked.", EXAMPLES)
    parser.add_argument("motion", metavar="MOTION", help=f"the file to read: {', '.join(readable_suffixes())}")
    add_output_option(parser, required=False)
    parser.add_argument("--fbx", metavar="FILE", help="an FBX file to write with Blender")
    add_format_options(parser)
    add_finish_options(parser)
    options = parser.parse_args(argv)
    outs = [writable(out) for out in options.out or []]
    fbx = Path(options.fbx) if options.fbx else None
    if not outs and fbx is None:
        raise MotionGPT3Error("nothing to write: name a file with -o or --fbx (see motiongpt3 export --help)")

    from motiongpt3.formats.fbx import find_blender

    blender = find_blender() if fbx else None
    with output_files([*outs, *([fbx] if fbx else [])]):
        raw = load(options.motion)
        motion = finished(raw, options)
        written = [_written(motion, out, options.bvh_dialect, options.body) for out in outs]
        if fbx and blender:
            written.append(_written_fbx(motion, fbx, blender))
        changed = changes([raw], [motion], options)
    if options.json:
        print(json.dumps({"files": written} | ({"finish": changed} if changed else {}), indent=2))
        return 0
    for entry in written:
        error = f"; joints {entry['fk_error_mm']:.1f} mm off" if "fk_error_mm" in entry else ""
        print(f"{entry['file']}: {entry['frames']} frames, {entry['seconds']:.2f} s{error}")
    if changed:
        print(changes_table(changed))
    return 0


def _written(motion: Motion, out: Path, dialect: Any, body: Any) -> dict[str, Any]:
    entry = {"file": str(save(motion, out, dialect, body)), "frames": len(motion), "seconds": motion.seconds}
    if suffix_of(out) == ".smpl.npz":
        from motiongpt3.formats.smpl import solve

        entry["fk_error_mm"] = 1000 * solve(motion).error
    return entry


def _written_fbx(motion: Motion, out: Path, blender: str) -> dict[str, Any]:
    from motiongpt3.formats.fbx import convert

    with tempfile.TemporaryDirectory() as folder:
        convert(save(motion, Path(folder) / "motion.glb"), out, motion.fps, blender)
    return {"file": str(out), "frames": len(motion), "seconds": motion.seconds}
