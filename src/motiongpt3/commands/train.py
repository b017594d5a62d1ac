"""`motiongpt3 train vae`, the three stages, `train evaluator`, and what the paper compares with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from motiongpt3.commands.options import Parser, show_progress
from motiongpt3.errors import MotionGPT3Error

CONFIGS = {"vq": "experiments/vq", "experiment": "experiments/dual"}
"""Configurations that the help names, where they are not `mini`'s."""
EXAMPLES = """
  motiongpt3 train {stage} --config configs/{config}.yaml
  motiongpt3 train {stage} --config configs/{config}.yaml --run.out runs/short --run.steps 100
  motiongpt3 train {stage} --config configs/{config}.yaml --resume
"""


def vae(argv: Sequence[str]) -> int:
    """Train a motion VAE."""
    from motiongpt3.training.commands import train_vae
    from motiongpt3.training.vae import VAETrainingConfig

    return _train(argv, "vae", "Train a motion VAE. Writes OUT/vae.", VAETrainingConfig, train_vae)


def stage1(argv: Sequence[str]) -> int:
    """Train text to motion."""
    from motiongpt3.training.commands import train_stage1
    from motiongpt3.training.stage1 import Stage1Config

    text = "Train text to motion, with the language model and the VAE frozen. Writes OUT/model."
    return _train(argv, "stage1", text, Stage1Config, train_stage1)


def stage2(argv: Sequence[str]) -> int:
    """Train all tasks, the language model frozen."""
    from motiongpt3.training.align import AlignConfig
    from motiongpt3.training.commands import train_align

    text = "Train all tasks on short prompts, the language model frozen. Needs --start. Writes OUT/model."
    return _train(argv, "stage2", text, AlignConfig, train_align)


def stage3(argv: Sequence[str]) -> int:
    """Train instructions."""
    from motiongpt3.training.align import AlignConfig
    from motiongpt3.training.commands import train_align

    text = "Train everything on instructions. Needs --start. Writes OUT/model."
    return _train(argv, "stage3", text, AlignConfig, train_align)


def evaluator(argv: Sequence[str]) -> int:
    """Train a text-motion evaluator."""
    from motiongpt3.training.commands import train_evaluator
    from motiongpt3.training.evaluator import EvaluatorTrainingConfig

    text = "Train an evaluator: captions and motions in one space. Writes OUT/evaluator."
    return _train(argv, "evaluator", text, EvaluatorTrainingConfig, train_evaluator)


def vq(argv: Sequence[str]) -> int:
    """Train the quantised baseline."""
    from motiongpt3.training.commands import train_vq
    from motiongpt3.training.vq import VQTrainingConfig

    text = "Train a VQ-VAE, the quantised baseline. --start takes a VAE's or a VQ-VAE's folder. Writes OUT/vq."
    return _train(argv, "vq", text, VQTrainingConfig, train_vq)


def experiment(argv: Sequence[str]) -> int:
    """Train one network of the paper's comparison."""
    from motiongpt3.training.commands import train_experiment
    from motiongpt3.training.experiment import ExperimentConfig

    def run(config: ExperimentConfig, resume: bool, start: Path | None, progress: bool) -> Path:
        if start is not None:
            raise MotionGPT3Error("an experiment starts from the language model; leave --start out")
        return train_experiment(config, resume, progress)

    text = "Train one network of the paper's comparison and judge it while it trains. Writes OUT/metrics and more."
    return _train(argv, "experiment", text, ExperimentConfig, run)


def training_parser(stage: str, description: str, config: type) -> Parser:
    """The parser of a training command: every field of its configuration class is an option."""
    parser = Parser(
        f"train {stage}", description, EXAMPLES.format(stage=stage, config=CONFIGS.get(stage, f"mini/{stage}"))
    )
    parser.add_argument(
        "--config", action="config", metavar="FILE", help="YAML file with options; options after it override it"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    parser.add_argument("--start", metavar="FOLDER", help="trained weights to start from")
    parser.add_class_arguments(config)
    return parser


def _train(argv: Sequence[str], stage: str, text: str, kind: type, run: Callable[..., Path]) -> int:
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    parser = training_parser(stage, text, kind)
    options = parser.instantiate(parser.parse_args(argv))
    config: Any = kind(**{field.name: options[field.name] for field in fields(kind)})
    last = Path(config.run.out) / "checkpoints" / "last.ckpt"
    if options.resume and options.start and stage in ("vae", "vq", "stage1", "evaluator"):
        raise MotionGPT3Error("--resume goes on from a checkpoint and --start from other weights; give one of them")
    if stage in ("stage2", "stage3") and config.stage != stage[-1]:
        raise MotionGPT3Error(f"train {stage} needs --stage {stage[-1]}, not {config.stage}")
    if last.is_file() and not options.resume:
        raise MotionGPT3Error(f"{config.run.out} holds a run already: add --resume, or choose another --run.out")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    try:
        folder = run(config, options.resume, Path(options.start) if options.start else None, show_progress())
    except MisconfigurationException as error:
        raise MotionGPT3Error(str(error)) from None
    print(folder)
    return 0
