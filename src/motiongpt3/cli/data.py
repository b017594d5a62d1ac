"""The commands on data sets: data prepare, data check and data augment."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from motiongpt3.cli.options import (
    CountArg,
    FolderArg,
    PackedArg,
    ReadingOptions,
    SeedArg,
    output_files,
    tell,
)
from motiongpt3.cli.parser import Arg
from motiongpt3.errors import MotionGPT3Error

LicensesArg = list[Annotated[str, Arg("NAME")]]
NewPathArg = Annotated[str, Arg("OUT")]


def prepare(
    source: Annotated[str, Arg("SOURCE")],
    out: NewPathArg,
    *,
    licenses: LicensesArg | None = None,
    layout: bool = True,
    overwrite: bool = False,
    reading: ReadingOptions,
    json: bool = False,
) -> None:
    """Turn a folder of recordings and captions into the HumanML3D layout and one packed file that training reads. Bad
    clips are skipped and reported; the result appears when it is complete or not at all.

    Args:
        source: joints.npz with clips.jsonl, a HumanML3D folder, or motion files ({readable}) with captions in .txt
            beside them or within
        out: folder to make
        licenses: keep only clips under these licences
        layout: also write the HumanML3D layout, not only the packed file
        overwrite: replace OUT if it exists
        json: print what was done as JSON

    Examples:
      motiongpt3 data prepare mocap data/mocap
      motiongpt3 data prepare my_files data/mine --no-layout
      motiongpt3 data prepare dances data/dances --up z --fps-in 60
      motiongpt3 data prepare mocap data/free --licenses CC0-1.0 MIT PDDL-1.0 CMU-free-use
    """
    from motiongpt3.data.prepare import prepare

    _check_folder(source)
    done = prepare(source, out, licenses=licenses, layout=layout, overwrite=overwrite, reading=reading.options())
    facts = {"folder": str(done.folder), "clips": done.clips, "frames": done.frames, "left_out": done.left_out}
    splits = ", ".join(f"{count} {split}" for split, count in done.clips.items())
    for problem in () if json else done.problems:
        print(problem, file=sys.stderr)
    tell(
        json,
        {**facts, "problems": [asdict(problem) for problem in done.problems]},
        f"{done.folder}: {sum(done.clips.values())} clips ({splits}), {done.frames} frames",
        f"skipped {len(done.skipped)} bad clips, left out {done.left_out} because of their licence",
    )


def check(folder: FolderArg, *, json: bool = False) -> int:
    """Find what is wrong with a data set: one line for each file and reason. Exits with 1 if there are errors; warnings
    alone are fine.

    Args:
        folder: a prepared folder, or anything `data prepare` reads
        json: print the problems as JSON

    Examples:
      motiongpt3 data check data/mocap
      motiongpt3 data check HumanML3D --json > problems.json
    """
    from motiongpt3.data.check import check

    _check_folder(folder)
    problems = check(folder)
    errors = sum(problem.severity == "error" for problem in problems)
    summary = f"{folder}: {errors} errors, {len(problems) - errors} warnings"
    tell(json, [asdict(problem) for problem in problems], *map(str, problems), summary)
    return 1 if errors else 0


def _check_folder(folder: str) -> None:
    if not Path(folder).is_dir():
        raise MotionGPT3Error(f"there is no folder {folder}")


def augment(
    packed: PackedArg,
    out: NewPathArg,
    *,
    joined: int = 3000,
    layered: int = 2000,
    extended: int = 3000,
    relaxed: int = 600,
    licenses: LicensesArg | None = None,
    seed: SeedArg = 0,
    workers: CountArg | None = None,
) -> None:
    """Make further examples from the train clips of a data set: actions one after the other, two at once, longer ones.
    Training takes the result as one more packed file.

    Args:
        packed: a prepared folder or its packed file
        out: packed file to write
        joined: Two or three actions one after the other.
        layered: Walks and runs with a wave or raised hands.
        extended: Short clips made four seconds long.
        relaxed: Squats, seats and lunges with hanging arms.
        licenses: use only clips under these licences
        seed: decides all examples
        workers: processes; one per core if left out

    Examples:
      motiongpt3 data augment data/mocap data/pool.safetensors --joined 3000 --layered 2000
    """
    from motiongpt3.data.augment import PoolSizes, make_pool
    from motiongpt3.data.clips import PACKED_NAME

    path, sizes = Path(out), PoolSizes(joined, layered, extended, relaxed)
    if any(count < 0 for count in asdict(sizes).values()) or not any(asdict(sizes).values()):
        raise MotionGPT3Error("numbers of examples must be 0 or more, and one of them more than 0")
    if path.name == PACKED_NAME:
        raise MotionGPT3Error(f"{PACKED_NAME} is the name of recorded clips; choose another, such as pool.safetensors")
    with output_files(path):
        pool = make_pool(packed, path, sizes, seed, workers, licenses)
    print(f"{path}: {len(pool)} examples, {len(pool.features)} frames")
