"""Spoilt files of every kind: each is read as a motion that holds only finite numbers, or is one line.

`FUZZ_INPUTS` says how many (2,000 unless it does), `FUZZ_SEED` where to begin; `make fuzz` runs for an hour.
"""

from __future__ import annotations

import itertools
import os
import time
import tracemalloc
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import spoilt, whole_files

from motiongpt3 import constraints
from motiongpt3.characters.bone_names import load_map
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import read, save
from motiongpt3.formats.glb import load_character

MAX_BYTES = 2**30
"""What the largest array that is read takes, twice: in the file's type and as float64."""


def _opened(path: Path) -> Any:
    """What a command makes of a file, by its suffix."""
    if path.suffix == ".yaml":
        return load_map(path)
    if path.suffix == ".json":
        return constraints.load(path)
    if path.suffix == ".txt":
        return constraints.load_timelines(path)
    if path.suffix == ".glb":
        load_character(path)
    return read(path)


def _seeds() -> Iterable[int]:
    first, seconds = int(os.environ.get("FUZZ_SEED", "0")), float(os.environ.get("FUZZ_SECONDS", "0"))
    if not seconds:
        yield from range(first, first + int(os.environ.get("FUZZ_INPUTS", "2000")))
        return
    end = time.monotonic() + seconds
    yield from itertools.takewhile(lambda _: time.monotonic() < end, itertools.count(first))


@pytest.mark.slow
def test_spoilt_files_are_a_motion_or_one_line(tmp_path: Path) -> None:
    files = [(path, path.read_bytes()) for path in whole_files(tmp_path)]
    folder = tmp_path / "spoilt"
    folder.mkdir()
    tracemalloc.start()
    lines: list[str] = []
    tried = 0
    for seed in _seeds():
        tried += 1
        path, data = files[seed % len(files)]
        copy = folder / path.name
        copy.write_bytes(spoilt(data, path.suffix, seed))
        tracemalloc.reset_peak()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # numpy's word for numbers that went wrong
                found = _opened(copy)
        except MotionGPT3Error as error:
            lines.append(str(error))
        except Exception as error:
            raise AssertionError(f"seed {seed}, {path.name}: {type(error).__name__}: {error}") from error
        else:
            motion = getattr(found, "motion", None)
            if motion is not None:
                assert np.isfinite(motion.joints).all(), (seed, path.name)
                if not seed % 50:
                    save(motion, folder / "again.bvh")
                    (folder / "again.bvh").unlink()
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES, (seed, path.name)
        assert [file.name for file in folder.iterdir()] == [path.name], (seed, path.name)
        copy.unlink()
    tracemalloc.stop()
    assert not [line for line in lines if "\n" in line]
    assert len(lines) > tried / 4
