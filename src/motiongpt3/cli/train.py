"""`motiongpt3 train vae`, the three stages, `train evaluator`, and what the paper compares with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from motiongpt3.baselines.networks import load_tokeniser
from motiongpt3.baselines.training import ExperimentConfig, ExperimentTraining, VQTraining, VQTrainingConfig, report
from motiongpt3.cli.options import Parser, show_progress
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.vae import MotionVAE
from motiongpt3.serialization import load_weights, write_folder
from motiongpt3.training.evaluator import EvaluatorTraining, EvaluatorTrainingConfig
from motiongpt3.training.loop import fit
from motiongpt3.training.stage1 import Stage1Config, Stage1Training
from motiongpt3.training.stages_2_3 import AlignConfig, AlignTraining
from motiongpt3.training.vae import VAETraining, VAETrainingConfig

CONFIGS = {"vq": "experiments/vq", "experiment": "experiments/dual"}
"""Configurations that the help names, where they are not `mini`'s."""
EXAMPLES = """
  motiongpt3 train {stage} --config configs/{config}.yaml
  motiongpt3 train {stage} --config configs/{config}.yaml --run.out runs/short --run.steps 100
  motiongpt3 train {stage} --config configs/{config}.yaml --resume
"""


def vae(argv: Sequence[str]) -> int:
    """Train a motion VAE."""
    from motiongpt3.training.vae import VAETrainingConfig

    return _train(argv, "vae", "Train a motion VAE. Writes OUT/vae.", VAETrainingConfig, train_vae)


def stage1(argv: Sequence[str]) -> int:
    """Train text to motion."""
    from motiongpt3.training.stage1 import Stage1Config

    text = "Train text to motion, with the language model and the VAE frozen. Writes OUT/model."
    return _train(argv, "stage1", text, Stage1Config, train_stage1)


def stage2(argv: Sequence[str]) -> int:
    """Train all tasks, the language model frozen."""
    from motiongpt3.training.stages_2_3 import AlignConfig

    text = "Train all tasks on short prompts, the language model frozen. Needs --start. Writes OUT/model."
    return _train(argv, "stage2", text, AlignConfig, train_align)


def stage3(argv: Sequence[str]) -> int:
    """Train instructions."""
    from motiongpt3.training.stages_2_3 import AlignConfig

    text = "Train everything on instructions. Needs --start. Writes OUT/model."
    return _train(argv, "stage3", text, AlignConfig, train_align)


def evaluator(argv: Sequence[str]) -> int:
    """Train a text-motion evaluator."""
    from motiongpt3.training.evaluator import EvaluatorTrainingConfig

    text = "Train an evaluator: captions and motions in one space. Writes OUT/evaluator."
    return _train(argv, "evaluator", text, EvaluatorTrainingConfig, train_evaluator)


def vq(argv: Sequence[str]) -> int:
    """Train the quantised baseline."""
    from motiongpt3.baselines.training import VQTrainingConfig

    text = "Train a VQ-VAE, the quantised baseline. --start takes a VAE's or a VQ-VAE's folder. Writes OUT/vq."
    return _train(argv, "vq", text, VQTrainingConfig, train_vq)


def experiment(argv: Sequence[str]) -> int:
    """Train one network of the paper's comparison."""
    from motiongpt3.baselines.training import ExperimentConfig

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


# The training commands: build, fit, export.


def train_vae(
    config: VAETrainingConfig, resume: bool = False, start: Path | None = None, progress: bool = True
) -> Path:
    """Train a motion VAE.

    Args:
        config: the run.
        resume: go on from the run's last checkpoint.
        start: a VAE folder to start from instead of random weights.
        progress: show a progress bar.

    Returns:
        The folder with the trained VAE: config.json and model.safetensors.
    """
    if config.decoder_only and start is None:
        raise MotionGPT3Error("decoder_only needs a trained VAE to start from: give its folder with --start")
    module = VAETraining(config)
    if start is not None:
        load_weights(module.vae, start)
    fit(module, resume, progress)
    if not config.decoder_only:
        module.to(device(config.run.accelerator)).measure_latents()
    folder = Path(config.run.out) / "vae"
    write_folder(folder, {"format": 1, "vae": asdict(config.model)}, module.vae.state_dict())
    return folder


def train_vq(config: VQTrainingConfig, resume: bool = False, start: Path | None = None, progress: bool = True) -> Path:
    """Train the quantised baseline; as `train_vae`.

    `start` is the folder of a VQ-VAE, or of a VAE of the same sizes, whose encoder and decoder are taken over.
    """
    module = VQTraining(config)
    if start is not None:
        first = load_tokeniser(start)
        if isinstance(first, MotionVAE):
            module.vq.start_from(first)
        else:
            load_weights(module.vq, start)
    fit(module, resume, progress)
    folder = Path(config.run.out) / "vq"
    write_folder(folder, {"format": 1, "vq": asdict(config.model)}, module.vq.state_dict())
    return folder


def train_experiment(config: ExperimentConfig, resume: bool = False, progress: bool = True) -> Path:
    """One run of the paper's comparison. Returns its folder: metrics/metrics.csv, final.json and samples."""
    where = device(config.run.accelerator)
    module = ExperimentTraining(config, where)
    fit(module, resume, progress)
    report(module.to(where).eval(), Path(config.run.out))
    return Path(config.run.out)


def train_stage1(config: Stage1Config, resume: bool = False, start: Path | None = None, progress: bool = True) -> Path:
    """Train text to motion; as `train_vae`, `start` is a model folder. Returns the folder of the model."""
    module = Stage1Training(config, device(config.run.accelerator))
    if start is not None:
        load_weights(module.model, start, absent=("backbone.",))
        load_weights(module.model.vae, config.vae)  # the latents are this VAE's, whatever the start was trained with
    fit(module, resume, progress)
    folder = Path(config.run.out) / "model"
    module.model.save_pretrained(folder)
    return folder


def train_align(config: AlignConfig, resume: bool = False, start: Path | None = None, progress: bool = True) -> Path:
    """Stage 2 or 3; as `train_stage1`, but a model to start from is needed."""
    if start is None:
        raise MotionGPT3Error(f"stage {config.stage} goes on from a trained model: give its folder with --start")
    module = AlignTraining(config, start, device(config.run.accelerator))
    fit(module, resume, progress)
    folder = Path(config.run.out) / "model"
    module.model.save_pretrained(folder, include_backbone=config.text == "whole")
    return folder


def train_evaluator(
    config: EvaluatorTrainingConfig, resume: bool = False, start: Path | None = None, progress: bool = True
) -> Path:
    """Train a text-motion evaluator; as `train_vae`, `start` is an evaluator's folder. Returns the folder of ours."""
    module = EvaluatorTraining(config)
    if start is not None:
        load_weights(module.network, start)
    fit(module, resume, progress)
    folder = Path(config.run.out) / "evaluator"
    module.network.save(folder, module.table.sha256)
    return folder


def device(accelerator: str) -> torch.device:
    """Where a run's accelerator setting puts tensors."""
    return torch.device("cuda" if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available() else "cpu")
