"""`motiongpt3 train vae`, the three stages, `train evaluator`, and what the paper compares with.

Every field of a run's configuration class is an option, so that YAML files and options say the same things.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from motiongpt3.cli.options import Parser, show_progress
from motiongpt3.errors import MotionGPT3Error

TRAININGS = {
    "vae": ("training.vae:VAETrainingConfig:train_vae", "mini/vae", "Train a motion VAE. Writes OUT/vae."),
    "stage1": (
        "training.stage1:Stage1Config:train_stage1",
        "mini/stage1",
        "Train text to motion, with the language model and the VAE frozen. Writes OUT/model.",
    ),
    "stage2": (
        "training.stages_2_3:AlignConfig:train_align",
        "mini/stage2",
        "Train all tasks on short prompts, the language model frozen. Needs --start. Writes OUT/model.",
    ),
    "stage3": (
        "training.stages_2_3:AlignConfig:train_align",
        "mini/stage3",
        "Train everything on instructions. Needs --start. Writes OUT/model.",
    ),
    "evaluator": (
        "training.evaluator:EvaluatorTrainingConfig:train_evaluator",
        "mini/evaluator",
        "Train an evaluator: captions and motions in one space. Writes OUT/evaluator.",
    ),
    "vq": (
        "baselines.training:VQTrainingConfig:train_vq",
        "experiments/vq",
        "Train a VQ-VAE, the quantised baseline. --start takes a VAE's or a VQ-VAE's folder. Writes OUT/vq.",
    ),
    "experiment": (
        "baselines.training:ExperimentConfig:train_experiment",
        "experiments/dual",
        "Train one network of the paper's comparison and judge it while it trains. Writes OUT/metrics and more.",
    ),
}
"""What is trained -> module, configuration class and function; the configuration that the help names; what it does."""
EXAMPLES = """
  motiongpt3 train {stage} --config configs/{config}.yaml
  motiongpt3 train {stage} --config configs/{config}.yaml --run.out runs/short --run.steps 100
  motiongpt3 train {stage} --config configs/{config}.yaml --resume
"""


def train(stage: str, argv: Sequence[str]) -> int:
    """Train what `TRAININGS` names and print the folder it was written to."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    module, kind, function = TRAININGS[stage][0].split(":")
    found = import_module(f"motiongpt3.{module}")
    options, config = read_options(stage, getattr(found, kind), argv)
    last = Path(config.run.out) / "checkpoints" / "last.ckpt"
    if options.resume and options.start and stage in ("vae", "vq", "stage1", "evaluator"):
        raise MotionGPT3Error("--resume goes on from a checkpoint and --start from other weights; give one of them")
    if stage in ("stage2", "stage3") and config.stage != stage[-1]:
        raise MotionGPT3Error(f"train {stage} needs --stage {stage[-1]}, not {config.stage}")
    if last.is_file() and not options.resume:
        raise MotionGPT3Error(f"{config.run.out} holds a run already: add --resume, or choose another --run.out")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    start = Path(options.start) if options.start else None
    try:
        print(getattr(found, function)(config, options.resume, start, show_progress()))
    except MisconfigurationException as error:
        raise MotionGPT3Error(str(error)) from None
    return 0


def read_options(stage: str, kind: type, argv: Sequence[str]) -> tuple[Any, Any]:
    """What the words after `motiongpt3 train STAGE` say: all options, and the configuration they make."""
    _, config, text = TRAININGS[stage]
    parser = Parser(f"train {stage}", text, EXAMPLES.format(stage=stage, config=config))
    parser.add_argument(
        "--config", action="config", metavar="FILE", help="YAML file with options; options after it override it"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    parser.add_argument("--start", metavar="FOLDER", help="trained weights to start from")
    parser.add_class_arguments(kind)
    options = parser.instantiate(parser.parse_args(argv))
    return options, kind(**{field.name: options[field.name] for field in fields(kind)})
