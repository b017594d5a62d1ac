"""The released checkpoint's names and sizes, with random numbers: converted, loaded and used."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from motiongpt3.evaluation.guo import GuoEvaluator
from motiongpt3.models.decoding import GenerationConfig
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion
from motiongpt3.official.model import OfficialMotionGPT3

Read = Callable[[str], Any]
Capture = pytest.CaptureFixture[str]
CONVERT = """
import resource, sys
from motiongpt3.cli.main import main

code = main(sys.argv[1:])
used = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
sys.stderr.write(f"\\npeak {max(used) * (1 if sys.platform == 'darwin' else 1024)}")
sys.exit(code)
"""


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if there is room, for files of gigabytes."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 6e9:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def random_checkpoint(keys: Path, file: Path) -> int:
    """Tensors of the listed names and shapes; returns how many words the text vocabulary has."""
    buffer = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)) * 0.02
    state: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for line in keys.read_text().splitlines():
        if line.startswith("#"):
            found = re.search(r"\{.*\}", line)
            tied |= json.loads(found[0]) if found else {}
        elif line.strip():
            name, shape, _ = line.split("\t")
            sizes = [int(size) for size in re.findall(r"\d+", shape)]
            count = math.prod(sizes)
            numbers = buffer.repeat(-(-count // len(buffer)))[:count].reshape(sizes).clone()
            state[name] = numbers + 1 if len(sizes) == 1 and name.endswith("weight") else numbers
    for name, same in tied.items():
        state[name] = state[same]
    torch.save({"epoch": 1, "state_dict": state}, file)
    return len(state["lm.language_model.transformer.wte.weight"]) - 2


@pytest.mark.slow
def test_the_released_size(read: Read, roomy: Path) -> None:
    """Every key of the released checkpoint: it converts in three times its size, loads, generates and captions."""
    words = random_checkpoint(read("keys_full_model.txt"), roomy / "full.ckpt")
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (roomy / "tokenizer").mkdir()
    tokenizer.save(str(roomy / "tokenizer" / "tokenizer.json"))
    statistics = [str(read(f"humanml3d_{name}.npy")) for name in ("Mean", "Std")]
    command = ["convert", "official", "full.ckpt", "-o", "model", "--tokenizer", "tokenizer", "--json"]
    for prefix in ("", "evaluator-"):
        command += [f"--{prefix}mean", statistics[0], f"--{prefix}std", statistics[1]]
    environment = {**os.environ, "TMPDIR": str(roomy), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    made = subprocess.run([sys.executable, "-c", CONVERT, *command], cwd=roomy, env=environment, capture_output=True)
    assert made.returncode == 0, made.stderr
    peak = int(made.stderr.split()[-1])
    assert peak <= 3 * (roomy / "full.ckpt").stat().st_size
    (roomy / "full.ckpt").unlink()
    report = json.loads(made.stdout)
    assert report["missed"] == []
    assert GuoEvaluator.load(roomy / "model" / "evaluator").config.channels == 512

    model = MotionGPT3.from_pretrained(roomy / "model")
    assert isinstance(model, OfficialMotionGPT3)
    text = sum(p.numel() for p in model.backbone.parameters())
    assert (text, model.config.motion_width) == (124_439_808 + 2 * 768, 768)
    motion = model.generate("w5 w6 w7", seconds=2, steps=2)
    assert np.isfinite(motion.joints).all()
    standing = Motion(np.repeat(motion.joints[:1], 40, axis=0), 20)
    rows = model.rows("m2t", [""])
    written = model.write(rows, list(model.read_motions([standing])), GenerationConfig(max_tokens=3))
    assert len(written) == 1
    assert all(0 <= number < words for number in written[0])
