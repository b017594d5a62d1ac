"""Guo et al.'s evaluator behind the interface of ours, and the words it reads."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motiongpt3.cli.main import main
from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.guo import CLASSES, GuoConfig, GuoEvaluator, WordVectors
from motiongpt3.evaluation.open_evaluator import check_evaluator, open_evaluator
from motiongpt3.evaluation.protocols import PROTOCOLS
from motiongpt3.motion.features import joints_to_features
from motiongpt3.motion.motion import Motion

WORDS = ["unk", "sos", "eos", "person", "walk", "left", "the", "slowly"]
VIP = {"Loc_VIP": ["left"], "Body_VIP": [], "Obj_VIP": [], "Act_VIP": ["walk"], "Desc_VIP": ["slowly"]}


@pytest.fixture(scope="module")
def guo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    sizes = {"text_width": 8, "movement_width": 5, "movement_channels": 7, "motion_width": 10, "channels": 9}
    network = GuoEvaluator(GuoConfig(word_channels=6, **sizes))
    network.feature_mean.normal_()
    network.save(folder := tmp_path_factory.mktemp("guo"))
    return folder


@pytest.fixture(scope="module")
def words_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    np.save(folder / "our_vab_data.npy", np.random.default_rng(0).normal(size=(len(WORDS), 6)).astype(np.float32))
    (folder / "our_vab_words.pkl").write_bytes(pickle.dumps(WORDS))
    (folder / "classes.json").write_text(json.dumps(VIP))
    (folder / "texts").mkdir()
    (folder / "texts" / "000001.txt").write_text(
        "The person walks left.#the/DET person/NOUN walk/VERB left/ADV#0.0#0.0\n"
        "a person is walking slowly#a/DET person/NOUN is/AUX walk/VERB slowly/ADV#0.0#0.0\n"
    )
    return folder


def test_captions_of_the_files_and_others(words_dir: Path) -> None:
    vectors = WordVectors.open(words_dir, 6)
    words, classes, lengths = vectors(["the person walks left.", "A person walking; slowly dances"])
    assert lengths.tolist() == [6, 7]
    named = [[CLASSES[int(one.argmax())] for one in row[:n]] for row, n in zip(classes, lengths, strict=True)]
    assert named == [
        ["OTHER", "DET", "NOUN", "Act_VIP", "Loc_VIP", "OTHER"],
        ["OTHER", "OTHER", "NOUN", "Act_VIP", "Desc_VIP", "OTHER", "OTHER"],  # "a" and "dance" have no vector
    ]
    spelt = [["sos", "the", "person", "walk", "left", "eos"], ["sos", "unk", "person", "walk", "slowly", "unk", "eos"]]
    for row, wanted in zip(words, spelt, strict=True):
        torch.testing.assert_close(row[: len(wanted)], vectors.vectors[[WORDS.index(word) for word in wanted]])
    assert vectors(["person " * 50])[2].tolist() == [22]


@pytest.mark.parametrize("packed", [True, False])
def test_motions_and_captions_in_one_space(guo_dir: Path, words_dir: Path, pack: PackedClips, packed: bool) -> None:
    evaluator = open_evaluator(str(guo_dir), str(words_dir), packed)
    assert evaluator.channels == 9
    assert len(evaluator.sha256) == 64
    motions = [Motion(pack.clip_joints(row)) for row in (2, 9)]  # 30 and 51 frames
    vectors = evaluator.embed_motions(motions)
    network = GuoEvaluator.load(guo_dir)
    features = torch.zeros(2, 200 if packed else 51, 263)
    for row, motion in zip(features, motions, strict=True):
        row[: len(motion)] = network.normalise(joints_to_features(torch.from_numpy(motion.joints.copy())))
    torch.testing.assert_close(vectors, network.embed_motion(features, torch.tensor([30, 51]), packed))
    alone = evaluator.embed_motions(motions[:1])[0]
    assert torch.allclose(alone, vectors[0], atol=1e-6) is packed  # unpacked, the padding of the batch is read
    assert evaluator.embed_texts(["a person walks"]).isfinite().all()
    assert open_evaluator(str(guo_dir)).embed_texts(["a person walks"]).isnan().all()


def test_the_evaluator_must_be_of_the_protocol_s_kind(guo_dir: Path, tiny_evaluator_dir: Path) -> None:
    check_evaluator(PROTOCOLS["mocap"], None)
    check_evaluator(PROTOCOLS["mocap"], str(tiny_evaluator_dir))
    check_evaluator(PROTOCOLS["humanml3d-official"], str(guo_dir))
    with pytest.raises(MotionGPT3Error, match=r"mocap is defined with our own evaluator, and .* is Guo et al\.'s"):
        check_evaluator(PROTOCOLS["mocap"], str(guo_dir))
    with pytest.raises(MotionGPT3Error, match=r"humanml3d-strict needs Guo et al\.'s evaluator: convert"):
        check_evaluator(PROTOCOLS["humanml3d-strict"], None)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("our_vab_data.npy", None, "our_vab_data.npy: No such file or directory; word vectors are a folder with"),
        ("our_vab_words.pkl", b"\x80\x04\x95", "are damaged"),
        ("our_vab_words.pkl", pickle.dumps(WORDS[:-1]), r"do not fit: \(8, 6\) numbers for 7 words"),
        ("classes.json", b"{}", "classes.json needs lists for Loc_VIP"),
        ("texts/000001.txt", b"a caption##0#0\n", "has no texts of HumanML3D"),
    ],
)
def test_damaged_words(words_dir: Path, tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    for source in words_dir.rglob("*.*"):
        target = tmp_path / source.relative_to(words_dir)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source.read_bytes())
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(MotionGPT3Error, match=message):
        WordVectors.open(tmp_path, 6)


def test_pickled_code_does_not_run(words_dir: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    for source in words_dir.rglob("*.*"):
        target = tmp_path / source.relative_to(words_dir)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source.read_bytes())
    (tmp_path / "our_vab_words.pkl").write_bytes(pickle.dumps([Evil(), *WORDS]))
    with pytest.raises(MotionGPT3Error):
        WordVectors.open(tmp_path, 6)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_the_official_protocol_with_and_without_words(
    make_pack: Callable[..., PackedClips],
    guo_dir: Path,
    words_dir: Path,
    tiny_model_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = make_pack([40 + number for number in range(34)], name="{}").path.parent
    command = ["evaluate", "t2m", "--protocol", "humanml3d-official", "--data", str(data), "--repeats", "1"]
    command += ["--model", str(tiny_model_dir), "--evaluator", str(guo_dir), "--limit", "33"]
    assert main([*command, "-o", str(tmp_path / "report.json")]) == 0
    out, err = capsys.readouterr()
    assert "Guo et al.'s evaluator reads captions by word vectors (GloVe and word classes) that motiongpt3 does" in err
    assert "undefined: R-precision 1 (%), R-precision 2 (%), R-precision 3 (%), MM-Dist, diversity" in out
    assert "evaluator Guo et al., unpacked" in out
    assert main([*command, "--words", str(words_dir)]) == 0
    out = capsys.readouterr().out
    assert "undefined: diversity" in out
