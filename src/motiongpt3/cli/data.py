"""`motiongpt3 data prepare`, `data check` and `data augment`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from jsonargparse import ActionYesNo
from jsonargparse.typing import NonNegativeInt, PositiveInt

from motiongpt3.cli.options import Parser, output_files
from motiongpt3.errors import MotionGPT3Error

PREPARE_EXAMPLES = """
  motiongpt3 data prepare mocap data/mocap
  motiongpt3 data prepare my_bvh_files data/mine --no-layout
  motiongpt3 data prepare mocap data/free --licenses CC0-1.0 MIT PDDL-1.0 CMU-free-use
"""


def prepare(argv: Sequence[str]) -> int:
    """A data set from recordings and captions."""
    parser = Parser(
        "data prepare",
        "Turn a folder of recordings and captions into the HumanML3D layout and one packed file that training reads. "
        "Bad clips are skipped and reported; the result appears when it is complete or not at all.",
        PREPARE_EXAMPLES,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="joints.npz with clips.jsonl, a HumanML3D folder, or BVH or AMC files with captions in .txt beside them",
    )
    parser.add_argument("out", metavar="OUT", help="folder to make")
    parser.add_argument("--licenses", nargs="+", metavar="NAME", help="keep only clips under these licences")
    parser.add_argument(
        "--layout",
        action=ActionYesNo(yes_prefix="", no_prefix="no-"),
        default=True,
        help="also write the HumanML3D layout, not only the packed file",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    options = parser.parse_args(argv)

    from motiongpt3.data.prepare import prepare as run

    if not Path(options.source).is_dir():
        raise MotionGPT3Error(f"there is no folder {options.source}")
    done = run(
        options.source, options.out, licenses=options.licenses, layout=options.layout, overwrite=options.overwrite
    )
    if options.json:
        facts = {"folder": str(done.folder), "clips": done.clips, "frames": done.frames, "left_out": done.left_out}
        print(json.dumps({**facts, "problems": [asdict(problem) for problem in done.problems]}, indent=2))
        return 0
    for problem in done.problems:
        print(problem, file=sys.stderr)
    splits = ", ".join(f"{count} {split}" for split, count in done.clips.items())
    print(f"{done.folder}: {sum(done.clips.values())} clips ({splits}), {done.frames} frames")
    print(f"skipped {len(done.skipped)} bad clips, left out {done.left_out} because of their licence")
    return 0


def check(argv: Sequence[str]) -> int:
    """What is wrong with a data set; 1 if something is."""
    parser = Parser(
        "data check",
        "Find what is wrong with a data set: one line for each file and reason. Exits with 1 if there are errors; "
        "warnings alone are fine.",
        "  motiongpt3 data check data/mocap\n  motiongpt3 data check HumanML3D --json > problems.json\n",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a prepared folder, or anything `data prepare` reads")
    parser.add_argument("--json", action="store_true", help="print the problems as JSON")
    options = parser.parse_args(argv)

    from motiongpt3.data.check import check as run

    if not Path(options.folder).is_dir():
        raise MotionGPT3Error(f"there is no folder {options.folder}")
    problems = run(options.folder)
    errors = sum(problem.severity == "error" for problem in problems)
    if options.json:
        print(json.dumps([asdict(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            print(problem)
        print(f"{options.folder}: {errors} errors, {len(problems) - errors} warnings")
    return 1 if errors else 0


def augment(argv: Sequence[str]) -> int:
    """A pool of examples made from recorded clips."""
    from motiongpt3.data.augment import PoolSizes, make_pool
    from motiongpt3.data.clips import PACKED_NAME

    parser = Parser(
        "data augment",
        "Make further examples from the train clips of a data set: actions one after the other, two at once, longer "
        "ones. Training takes the result as one more packed file.",
        "  motiongpt3 data augment data/mocap data/pool.safetensors --joined 3000 --layered 2000\n",
    )
    parser.add_argument("packed", metavar="PACKED", help="a prepared folder or its packed file")
    parser.add_argument("out", metavar="OUT", help="packed file to write")
    parser.add_class_arguments(PoolSizes)
    parser.add_argument("--licenses", nargs="+", metavar="NAME", help="use only clips under these licences")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, metavar="N", help="decides all examples")
    parser.add_argument("--workers", type=PositiveInt, metavar="N", help="processes; one per core if left out")
    options = parser.parse_args(argv)

    out = Path(options.out)
    sizes = PoolSizes(**{field.name: options[field.name] for field in fields(PoolSizes)})
    if any(count < 0 for count in asdict(sizes).values()) or not any(asdict(sizes).values()):
        raise MotionGPT3Error("numbers of examples must be 0 or more, and one of them more than 0")
    if out.name == PACKED_NAME:
        raise MotionGPT3Error(f"{PACKED_NAME} is the name of recorded clips; choose another, such as pool.safetensors")
    with output_files([out]):
        pool = make_pool(options.packed, out, sizes, options.seed, options.workers, options.licenses)
    print(f"{out}: {len(pool)} examples, {len(pool.features)} frames")
    return 0
