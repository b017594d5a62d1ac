"""`import motiongpt3` is quick: the public names load what they need on first use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import motiongpt3

HEAVY = ["torch", "numpy", "transformers", "diffusers", "huggingface_hub", "pytorch_lightning"]


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import json, sys, time; start = time.perf_counter(); import motiongpt3; took = time.perf_counter() - start;"
        f"dir(motiongpt3); motiongpt3.__version__;"
        f"print(json.dumps([took, [name for name in {HEAVY} if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = json.loads(done.stdout)
    assert loaded == []
    assert seconds < 0.3


def test_a_motion_needs_no_torch() -> None:
    code = "import sys, motiongpt3; motiongpt3.Motion; motiongpt3.MotionGPT3Error; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", motiongpt3.__all__)
def test_public_names(name: str) -> None:
    assert name in dir(motiongpt3)
    value = getattr(motiongpt3, name)
    assert value is getattr(motiongpt3, name)
    if isinstance(value, type):
        assert value.__name__ == name
        assert value.__module__.startswith("motiongpt3.")


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        motiongpt3.nonsense  # noqa: B018
