"""Hashes of what a number was made with: the same for the same, others for anything that counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from motiongpt3 import __version__
from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.provenance import clips_provenance, files_hash, made_with, model_provenance, versions


def test_the_hash_of_a_model_is_that_of_its_two_files(tiny_model_dir: Path, tmp_path: Path) -> None:
    whole = (tiny_model_dir / "config.json").read_bytes() + (tiny_model_dir / "model.safetensors").read_bytes()
    assert model_provenance(str(tiny_model_dir)) == {
        "name": str(tiny_model_dir), "stage": 1, "sha256": hashlib.sha256(whole).hexdigest()
    }  # fmt: skip
    with pytest.raises(MotionGPT3Error, match=r"cannot read .*none"):
        files_hash([tmp_path / "none"])


def test_a_split_is_its_clips_in_any_order(pack: PackedClips, make_pack: Callable[..., PackedClips]) -> None:
    facts = clips_provenance(pack, "test", [3, 1, 2])
    assert (facts["name"], facts["clips"], facts["frames"]) == ("test", 3, 27 + 30 + 33)
    assert clips_provenance(pack, "test", [1, 2, 3]) == facts
    assert clips_provenance(pack, "test", [1, 2, 4])["sha256"] != facts["sha256"]
    lengths = [24 + 3 * number for number in range(24)]
    again, other = make_pack(lengths), make_pack(lengths, captions=("another.",), crop_safe=(True,))
    assert clips_provenance(again, "test", [1, 2, 3]) == facts
    assert clips_provenance(other, "test", [1, 2, 3])["sha256"] != facts["sha256"]


def test_what_is_written_of_the_making(pack: PackedClips, tiny_model_dir: Path) -> None:
    facts = made_with(str(tiny_model_dir), pack, "test", [1])
    assert list(facts) == ["model", "split", "versions"]
    assert facts["versions"] == versions()
    assert facts["versions"]["motiongpt3"] == __version__
    assert list(made_with(str(tiny_model_dir))) == ["model", "versions"]
