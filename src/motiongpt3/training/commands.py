"""The training commands: build, fit, export."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from motiongpt3.checkpoints.folder import load_weights, write_folder
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.baselines.build import load_tokeniser
from motiongpt3.models.vae import MotionVAE
from motiongpt3.training.align import AlignConfig, AlignTraining
from motiongpt3.training.evaluator import EvaluatorTraining, EvaluatorTrainingConfig
from motiongpt3.training.experiment import ExperimentConfig, ExperimentTraining, report
from motiongpt3.training.loop import fit
from motiongpt3.training.stage1 import Stage1Config, Stage1Training
from motiongpt3.training.vae import VAETraining, VAETrainingConfig
from motiongpt3.training.vq import VQTraining, VQTrainingConfig


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
