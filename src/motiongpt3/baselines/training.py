"""Text to motion with one of the paper's four networks: dual or single stream, latents or codes.

All of them see the same clips with the same captions in the same order, are trained alike, and are judged alike while
they train. Nothing is frozen but the autoencoder, and nothing is taken from a cache of texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from motiongpt3.baselines.networks import CodeNetwork, Streams, build_network, load_autoencoder, trained_parameters
from motiongpt3.baselines.validation import HeldOutClips
from motiongpt3.baselines.vq import MotionVQ, VQConfig
from motiongpt3.data.bank import ClipBank
from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.network import Network
from motiongpt3.models.sequence import OutputMotion, Row, TextPiece, pack
from motiongpt3.models.vae import MotionVAE, frame_mask
from motiongpt3.serialization import atomic_path, load_weights, write_folder
from motiongpt3.training.autoencoder import AutoencoderTraining, VAELossWeights, reconstruction_losses
from motiongpt3.training.latents import LatentBank, LatentBatch, sample_latents
from motiongpt3.training.stage1 import length_loss
from motiongpt3.training.trainer import (
    FeatureTrainingConfig,
    RunConfig,
    TrainingModule,
    check_settings,
    device,
    fit,
    mean_over_clips,
)


@dataclass(frozen=True)
class ExperimentConfig:
    """One run of the comparison."""

    run: RunConfig
    data: Path
    """Packed file of the recorded clips."""
    tokeniser: Path
    """Folder that `motiongpt3 train vae` or `motiongpt3 train vq` wrote; it decides between latents and codes."""
    streams: Streams = "dual"
    """A motion stream beside the language model, or the language model's own layers for both."""
    layers: int = 6
    """First layers of the language model that are used."""
    model: MotionGPT3Config = field(default_factory=MotionGPT3Config)
    """Sizes of the rest."""
    dropout: float = 0.1
    """In every layer of the network."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up. With a constant one a curve does not depend on how long the run is."""
    batch: int = 128
    """Clips per step."""
    noise_levels: int = 4
    """Noise levels per clip and step (latents)."""
    length_weight: float = 0.1
    """Weight of the length head's cross entropy."""
    parts: int = 2
    """Random parts of each clip that are trained on, besides the whole."""
    balance: float = 0.5
    """0 draws clips alike, 1 draws actions alike."""
    latents: Path | None = None
    """File to keep the clips' latents or codes in; runs with the same tokeniser can share it."""
    temperature: float = 1.0
    """Of the draws of codes, in the scores."""
    evaluator: str | None = None
    """Evaluator that judges motions of the validation split; None: losses only."""
    draws: int = 3
    """Draws of motions that the final scores are a mean of."""
    texts: Path | None = None
    """File with its embeddings of the captions, from `baselines.validation.write_texts`; None: its sentence encoder
    makes them."""

    def __post_init__(self) -> None:
        check_settings(self, layers=(1, 1000), dropout=(0, 0.99), batch=(1, 10**6), noise_levels=(1, 1000))
        check_settings(self, length_weight=(0, 1e6), parts=(0, 1000), balance=(0, 10), temperature=(0, 100))
        check_settings(self, draws=(1, 1000))
        MotionGPT3Config.from_dict(asdict(self.model))


class _CodesAsLatents(torch.nn.Module):
    """A VQ-VAE as `LatentBank` wants it: a patch's codes are a latent's channels, without variance."""

    def __init__(self, vq: MotionVQ) -> None:
        super().__init__()
        self.vq = vq
        self.config = replace(vq.config, latent_tokens=vq.vq.slots, latent_channels=vq.vq.books)

    def normalise(self, features: Tensor) -> Tensor:
        return self.vq.normalise(features)

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.vq.encode(features, lengths)
        codes = F.pad(codes, (0, 0, 0, self.config.latent_tokens - codes.shape[1])).float()
        return codes, torch.zeros_like(codes)


class ExperimentTraining(TrainingModule):
    """The objective (diffusion loss of latents, or cross entropy of codes) and the length head's loss."""

    def __init__(self, config: ExperimentConfig, device: torch.device | None = None) -> None:
        super().__init__(config.run)
        self.config = config
        device = device or torch.device("cpu")
        autoencoder = load_autoencoder(config.tokeniser).to(device)
        network = build_network(config.model, autoencoder, config.streams, config.layers, config.dropout)
        self.network: Network = network.to(device)
        packs = [PackedClips.open(config.data)]
        encoder: Any = _CodesAsLatents(autoencoder) if isinstance(autoencoder, MotionVQ) else autoencoder
        train, val = (ClipBank(packs, split).to(device) for split in ("train", "val"))
        # The parts are those of seed 0 in every run: runs with one tokeniser share their latents.
        self.bank = LatentBank(train, encoder, config.parts, 0, config.balance, cache=config.latents)
        self.held = LatentBank(val, encoder, parts=0)
        self.clips = len(train)
        self.tokens, self.held_tokens = (self.network.tokens(bank.captions) for bank in (self.bank, self.held))
        self._unwritten: list[Tensor] = []
        self.validation = self.held_out("val") if config.evaluator is not None else None

    def held_out(self, split: str) -> HeldOutClips:
        """The clips of a split that the network is judged on, by the evaluator of the configuration."""
        config, clips = self.config, PackedClips.open(self.config.data)
        longest, device = self.network.config.vae.max_frames, self.bank.mean.device
        return HeldOutClips(clips, split, longest, str(config.evaluator), config.texts, device)

    def losses(self, batch: LatentBatch, tokens: list[list[int]], generator: torch.Generator) -> dict[str, Tensor]:
        """Means of the objective and of the length loss; words and motion go through the network together."""
        network, frames = self.network, batch.frames
        codes = None
        inputs = network.query_tokens(frames)
        if isinstance(network, CodeNetwork):
            codes = batch.mean.long()[:, : int(network.vae.counts(frames).max())]
            inputs = torch.cat([inputs, network.code_tokens(codes[:, :-1], frames)], 1)
        rows: list[Row] = [
            [TextPiece(tuple(tokens[caption])), OutputMotion(number, opened=True)]
            for number, caption in enumerate(batch.captions)
        ]
        packed = pack(rows, replace(network.motion_tokens, outputs=inputs.shape[1]))
        with self.attention():
            _, hidden = network(packed.to(self.device), queries=inputs)
        length = length_loss(network.predict_length(hidden[:, 0]), network.length_classes(frames), batch.whole)
        if codes is not None and isinstance(network, CodeNetwork):
            real = frame_mask(network.vae.counts(frames), codes.shape[1])
            scores = network.code_head(hidden[:, 1:][real], codes[real]).float()
            objective = F.cross_entropy(scores.transpose(1, 2), codes[real])
        else:
            latents = sample_latents(network.vae, batch.mean, batch.log_variance, generator)
            objective = network.head.loss(hidden[:, 1:], latents, self.config.noise_levels, generator).mean()
        return {"objective": objective, "length": length}

    def step(self, seed: int) -> tuple[Tensor, dict[str, Tensor], Callable[[], Iterable[str]]]:
        """See `TrainingModule`."""
        batch = self.bank.batch(self.config.batch, self.run.seed, self.global_step)
        terms = self.losses(batch, self.tokens, torch.Generator(self.device).manual_seed(seed))
        return terms["objective"] + self.config.length_weight * terms["length"], terms, lambda: batch.clips

    def write(self, loss: Tensor, terms: dict[str, Tensor]) -> None:
        """Log means over the steps since the line before."""
        self._unwritten.append(torch.stack([terms["objective"].detach(), terms["length"].detach()]))
        if (self.global_step + 1) % self.run.log_every == 0:
            objective, length = torch.stack(self._unwritten).mean(0)
            self._unwritten = []
            epochs = (self.global_step + 1) * self.config.batch / self.clips
            logged = {"train/objective": objective, "train/length": length, "epoch_of_clips": epochs}
            self.log_dict(logged, batch_size=1)

    @torch.no_grad()
    def validation_step(self, _: Any, index: int) -> None:
        """Losses over the whole clips of the validation split, and scores of one motion for each; same noise always."""
        generator = torch.Generator(self.device).manual_seed(0)
        batches = self.held.whole_clips(128)
        values: dict[str, Any] = dict(
            mean_over_clips((len(b.clips), self.losses(b, self.held_tokens, generator)) for b in batches)
        )
        if self.validation is not None:
            values |= self.validation.score(self.network, seed=0, temperature=self.config.temperature)
        self.log_dict({f"val/{name}": value for name, value in values.items()}, batch_size=1)
        self.log("seconds", self.seconds, batch_size=1)

    def configure_optimizers(self) -> Any:
        """As everywhere, without the cosine where the schedule is constant."""
        found = super().configure_optimizers()
        if self.config.schedule == "constant":
            optimizer, warmup = found["optimizer"], max(self.run.warmup, 1)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] = self.run.learning_rate
            ramp = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))
            found["lr_scheduler"]["scheduler"] = ramp
        return found

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The unwritten losses go along."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["unwritten"] = list(self._unwritten)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `on_save_checkpoint`."""
        super().on_load_checkpoint(checkpoint)
        self._unwritten = [values.to(self.device) for values in checkpoint["unwritten"]]


def report(module: ExperimentTraining, folder: Path) -> dict[str, Any]:
    """Final scores of a trained run over its configuration's draws of both held splits; also written to OUT/final.json.

    OUT/samples.safetensors holds the first motions of the test split: features (8, T, 263) and frames (8,).
    """
    config, network = module.config, module.network
    codes = isinstance(network, CodeNetwork)
    result: dict[str, Any] = {
        "streams": config.streams,
        "tokens": "codes" if codes else "latents",
        "layers": config.layers,
        "seed": config.run.seed,
        "steps": module.global_step,
        "learning_rate": config.run.learning_rate,
        "seconds": module.seconds,
        "parameters": trained_parameters(network),
    }
    if config.evaluator is not None:
        guided = {"guided": {"guidance": config.model.guidance}, "unguided": {"guidance": 1.0}}
        ways = {"sampled": {"temperature": config.temperature}} if codes else guided
        for split in ("val", "test"):
            held = module.held_out(split)
            result[split] = {
                "clips": len(held.captions),
                "recorded": held.score_features(held.features),
                "reconstructed": held.score_features(held.reconstruct(network)),
            }
            for name, way in ways.items():
                result[split][name] = [held.score(network, seed, **way) for seed in range(1, config.draws + 1)]
        made = held.draw(network, 1, config.temperature)[:8]
        with atomic_path(folder / "samples.safetensors") as temporary:
            tensors = {"features": made.cpu().contiguous(), "frames": held.frames[:8].cpu().contiguous()}
            save_file(tensors, temporary, metadata={"captions": json.dumps(held.captions[:8])})
    with atomic_path(folder / "final.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    return result


@dataclass(frozen=True)
class VQTrainingConfig(FeatureTrainingConfig):
    """One run that trains a VQ-VAE."""

    model: VQConfig = field(default_factory=VQConfig)
    loss: VAELossWeights = field(default_factory=VAELossWeights)
    """As of the VAE; `kl` and `adversarial` mean nothing here."""
    commitment: float = 0.1
    """Weight of the squared distance of encodings to their codes."""

    def __post_init__(self) -> None:
        check_settings(self, commitment=(0, 1e6))
        super().__post_init__()


class VQTraining(AutoencoderTraining):
    """The VQ-VAE: the VAE's data, reconstruction loss and validation, with codebooks in the middle."""

    config: VQTrainingConfig

    def __init__(self, config: VQTrainingConfig) -> None:
        super().__init__(config)
        self.vq = self.with_statistics(MotionVQ(config.model))

    @property
    def autoencoder(self) -> MotionVQ:
        """The VQ-VAE."""
        return self.vq

    def losses(self, features: Tensor, lengths: Tensor, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction through the codes, and how far encodings are from these; also logs how many are in use."""
        with self.attention():
            output, _, commitment = self.vq(features, lengths)
        terms = {"commitment": commitment} | reconstruction_losses(self.vq, output, features, lengths)
        loss = self.weighted(terms, commitment=self.config.commitment)
        return loss, terms | {"codes": torch.stack([book.perplexity for book in self.vq.codebooks]).mean()}


def train_vq(config: VQTrainingConfig, resume: bool = False, start: Path | None = None, progress: bool = True) -> Path:
    """Train the quantised baseline; as `train_vae`.

    `start` is the folder of a VQ-VAE, or of a VAE of the same sizes, whose encoder and decoder are taken over.
    """
    module = VQTraining(config)
    if start is not None:
        first = load_autoencoder(start)
        if isinstance(first, MotionVAE):
            module.vq.start_from(first)
        else:
            load_weights(module.vq, start)
    fit(module, resume, progress)
    folder = Path(config.run.out) / "vq"
    write_folder(folder, {"format": 1, "vq": asdict(config.model)}, module.vq.state_dict())
    return folder


def train_experiment(
    config: ExperimentConfig, resume: bool = False, start: Path | None = None, progress: bool = True
) -> Path:
    """One run of the paper's comparison, from the language model: there is no other `start`.

    Returns:
        Its folder: metrics/metrics.csv, final.json and samples.
    """
    if start is not None:
        raise MotionGPT3Error("an experiment starts from the language model; leave --start out")
    where = device(config.run.accelerator)
    module = ExperimentTraining(config, where)
    fit(module, resume, progress)
    report(module.to(where).eval(), Path(config.run.out))
    return Path(config.run.out)
