"""MotionGPT3: words in, motion out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, overload

import numpy as np
import torch
from huggingface_hub import HfApi, ModelHubMixin
from torch import Tensor, nn

from motiongpt3.checkpoints.folder import CARD, CONFIG, WEIGHTS, load_weights, parse_config, read_config, write_folder
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import Style, generation_prompt
from motiongpt3.models import continuing
from motiongpt3.models.backbone import TextBackbone, load_backbone
from motiongpt3.models.bimodal import BimodalTransformer
from motiongpt3.models.diffusion_head import DiffusionHead, HeadConfig, time_embedding
from motiongpt3.models.kv_cache import KVCache
from motiongpt3.models.request import check_request
from motiongpt3.models.stream import Stream, Tokens
from motiongpt3.models.vae import MotionVAE, VAEConfig
from motiongpt3.motion.kinematics import set_bone_lengths
from motiongpt3.motion.motion import Motion

EMBEDDED = Path(__file__).resolve().parent.parent / "checkpoints" / "mini"
"""The model that ships inside the package."""


@dataclass(frozen=True)
class MotionGPT3Config:
    """Sizes of a MotionGPT3 and the settings it generates with."""

    backbone: str = "smollm2-135m-instruct"
    """Name of the language model that is the text stream."""
    prompt_style: Style = "chatml"
    """How a caption is wrapped for the language model."""
    motion_width: int = 256
    """Channels of the motion stream."""
    motion_mlp: int = 512
    """Hidden channels of the motion stream's MLPs."""
    motion_dropout: float = 0.0
    """Dropout of the motion stream while training."""
    shared_layers: int | Literal["all"] = "all"
    """Layers in which the streams see each other: all, or the last so many."""
    queries: int = 4
    """K: motion tokens whose hidden states condition the diffusion head."""
    length_unit: int = 4
    """Frames per class of the length head."""
    fps: float = 20.0
    """Frames per second of the motions."""
    vae: VAEConfig = field(default_factory=VAEConfig)
    """The motion VAE."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The diffusion head; its queries, hidden, latent_tokens and latent_channels follow the rest."""
    guidance: float = 3.0
    """Default scale of classifier-free guidance."""
    steps: int = 20
    """Default number of sampling steps."""

    @property
    def max_seconds(self) -> float:
        """Longest motion the model makes."""
        return self.vae.max_frames / self.fps

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MotionGPT3Config:
        """The inverse of `dataclasses.asdict`; MotionGPT3Error when something is unknown or missing."""
        config = parse_config(cls, values)
        if not 0 < config.fps <= 1000:
            raise MotionGPT3Error(f"this model's configuration is not one of ours: fps is {config.fps}")
        return config


class MotionGPT3(nn.Module, ModelHubMixin):
    """A language model and a motion stream that share attention, a length head, a diffusion head and a motion VAE.

    One text-to-motion pass: words and <start_of_motion> go through the text stream; one length query and K motion
    queries follow in the motion stream; the length query's hidden state predicts the duration, whose embedding is added
    to the K queries; their hidden states condition the diffusion head, which draws the VAE's latents.

    Args:
        config: sizes.
        backbone: the text stream with its tokenizer and embeddings.
    """

    def __init__(self, config: MotionGPT3Config, backbone: TextBackbone) -> None:
        super().__init__()
        head = replace(
            config.head,
            queries=config.queries,
            hidden=config.motion_width,
            latent_tokens=config.vae.latent_tokens,
            latent_channels=config.vae.latent_channels,
        )
        self.config = config = replace(config, head=head)
        self.backbone = backbone
        stream = backbone.stream.config.for_motion(config.motion_width, config.motion_mlp, config.motion_dropout)
        self.motion = Stream(stream)
        BimodalTransformer(backbone.stream, self.motion, config.shared_layers)  # refuses what does not fit together
        self.queries = nn.Parameter(torch.randn(config.queries + 1, config.motion_width) * 0.02)
        self.embed_length = nn.Sequential(
            nn.Linear(256, config.motion_width), nn.SiLU(), nn.Linear(config.motion_width, config.motion_width)
        )
        self.predict_length = nn.Linear(config.motion_width, -(-config.vae.max_frames // config.length_unit))
        self.head = DiffusionHead(config.head)
        self.vae = MotionVAE(config.vae)

    @property
    def transformer(self) -> BimodalTransformer:
        """The two streams as one transformer; it owns no parameters of its own."""
        return BimodalTransformer(self.backbone.stream, self.motion, self.config.shared_layers)

    @property
    def max_seconds(self) -> float:
        """Longest motion the model makes."""
        return self.config.max_seconds

    def tokens(self, captions: Sequence[str]) -> list[list[int]]:
        """Token ids of cleaned captions, each wrapped as a prompt and ended by <start_of_motion>."""
        ids, mask = self.backbone.tokenize([generation_prompt(text, self.config.prompt_style) for text in captions])
        start = self.backbone.start_of_motion
        return [[*row[: int(used)], start] for row, used in zip(ids.tolist(), mask.sum(1), strict=True)]

    def read(self, tokens: Sequence[Sequence[int]]) -> tuple[KVCache, Tensor]:
        """Run the text stream over prompts from `tokens`: what motion queries will see, and (B,) where they start."""
        device = self.queries.device
        lengths = torch.tensor([len(row) for row in tokens])
        ids = torch.zeros(len(tokens), int(lengths.max()), dtype=torch.long)
        for row, words in zip(ids, tokens, strict=True):
            row[: len(words)] = torch.tensor(words)
        lengths = lengths.to(device)
        mask = torch.arange(ids.shape[1], device=device) < lengths.unsqueeze(1)
        cache = KVCache()
        self.transformer(Tokens.of(self.backbone.embed(ids.to(device)), mask), None, cache)
        return cache, lengths

    def think(self, cache: KVCache, start: Tensor, frames: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run the motion queries after a text.

        Args:
            cache: from `read`.
            start: (B,) position of the first query.
            frames: (B,) duration in frames; None lets the length head decide.

        Returns:
            length logits (B, classes) and the hidden states of the K queries (B, K, motion width).
        """
        batch = len(start)
        queries = self.queries.expand(batch, -1, -1)
        transformer = self.transformer
        if frames is None:
            _, hidden = transformer(None, Tokens.of(queries[:, :1], start=start), cache)
            logits = self.predict_length(hidden[:, 0])
            later = queries[:, 1:] + self.length_embedding(self.predicted_frames(logits))
            _, hidden = transformer(None, Tokens.of(later, start=start + 1), cache)
            return logits, hidden
        shift = torch.cat(
            [torch.zeros_like(queries[:, :1]), self.length_embedding(frames).expand_as(queries[:, 1:])], 1
        )
        _, hidden = transformer(None, Tokens.of(queries + shift, start=start), cache)
        return self.predict_length(hidden[:, 0]), hidden[:, 1:]

    def length_embedding(self, frames: Tensor) -> Tensor:
        """(B,) frames -> (B, 1, motion width)."""
        return self.embed_length(time_embedding(frames * 4.0).to(self.queries.dtype)).unsqueeze(1)

    def predicted_frames(self, logits: Tensor) -> Tensor:
        """Length logits (B, classes) -> (B,) frames."""
        return ((logits.argmax(-1) + 1) * self.config.length_unit).clamp(max=self.config.vae.max_frames)

    @overload
    def generate(
        self,
        prompt: str,
        seconds: float | None = ...,
        samples: Literal[1] = ...,
        seed: int = ...,
        guidance: float | None = ...,
        steps: int | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> Motion: ...

    @overload
    def generate(
        self,
        prompt: str | Sequence[str],
        seconds: float | None = ...,
        samples: int = ...,
        seed: int = ...,
        guidance: float | None = ...,
        steps: int | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> Motion | list[Motion]: ...

    @torch.inference_mode()
    def generate(
        self,
        prompt: str | Sequence[str],
        seconds: float | None = None,
        samples: int = 1,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> Motion | list[Motion]:
        """Motions that do what the prompts say.

        Args:
            prompt: a sentence, or several.
            seconds: duration, at most `max_seconds`; None lets the model decide.
            samples: motions per prompt. Sample k is drawn with seed + k, whatever else is drawn with it.
            seed: same seed, same machine, same motion.
            guidance: how strictly to follow the words; 1 is not at all stressed.
            steps: sampling steps of the diffusion head.
            progress: wraps the list of batches, for a progress bar.

        Returns:
            A Motion for one prompt and one sample, else a flat list, prompt by prompt.

        Raises:
            MotionGPT3Error: an empty or endless prompt, or a number out of range.
        """
        if not isinstance(prompt, str | Sequence):
            raise MotionGPT3Error(f"the prompt must be a sentence or a list of them, not {type(prompt).__name__}")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        asked = check_request(self.config, prompts, seconds, samples, seed, guidance, steps)
        jobs = [(i, asked.seed + k) for i in range(len(prompts)) for k in range(asked.samples)]
        batches = [jobs[i : i + 32] for i in range(0, len(jobs), 32)]
        motions: list[Motion] = []
        for batch in progress(batches):
            joints, lengths = self._draw(asked.captions, batch, asked.frames, asked.guidance, asked.steps)
            for (i, number), clip, length in zip(batch, joints, lengths, strict=True):
                motions.append(Motion(clip[:length], self.config.fps, prompts[i], f"seed {number}"))
        return motions[0] if isinstance(prompt, str) and asked.samples == 1 else motions

    def _draw(
        self, captions: list[str], jobs: list[tuple[int, int]], frames: int | None, guidance: float, steps: int
    ) -> tuple[np.ndarray, list[int]]:
        """Joints (B, T, J, 3) and frames of (caption index, seed) jobs; each caption is read once."""
        device = self.queries.device
        wanted = sorted({i for i, _ in jobs})
        cache, start = self.read(self.tokens([captions[i] for i in wanted]))
        least = min(self.config.vae.min_frames, self.config.vae.max_frames)
        asked = None if frames is None else torch.full((len(wanted),), max(frames, least), device=device)
        logits, hidden = self.think(cache, start, asked)
        rows = torch.tensor([wanted.index(i) for i, _ in jobs], device=device)
        lengths = (self.predicted_frames(logits) if asked is None else asked)[rows]
        generators = [torch.Generator().manual_seed(number) for _, number in jobs]
        shape = (self.config.vae.latent_tokens, self.config.vae.latent_channels)
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
        latents = self.head.sample(hidden[rows], noise, steps, guidance)
        joints = set_bone_lengths(self.vae.decode_joints(latents, lengths))
        return joints.cpu().numpy(), [int(n) if frames is None else frames for n in lengths]

    def save_pretrained(  # type: ignore[override]
        self, folder: str | Path, *, include_backbone: bool = False, dtype: torch.dtype | None = None, **hub: Any
    ) -> None:
        """Write config.json and model.safetensors.

        Args:
            folder: where to.
            include_backbone: also write the language model's weights; otherwise it is named with its hash.
            dtype: of the stored tensors; None keeps what they are.
            hub: `repo_id`, `push_to_hub` and so on of huggingface_hub.
        """
        identity = self.backbone.identity
        config = {
            "format": 1,
            **asdict(self.config),
            "backbone_identity": identity,
            "includes_backbone": include_backbone,
        }
        tensors = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if include_backbone or not name.startswith(_backbone_names(self.backbone))
        }
        write_folder(folder, config, tensors, dtype)
        if hub.pop("push_to_hub", False):
            name = hub.pop("repo_id", Path(folder).name)
            self.push_to_hub(name, include_backbone=include_backbone, dtype=dtype, **hub)

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        include_backbone: bool = False,
        dtype: torch.dtype | None = None,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        **upload: Any,
    ) -> str:
        """Write the model to a repository on the hub; returns the address of the commit.

        Args:
            repo_id: such as "me/mine"; made if it is not there.
            include_backbone: as in `save_pretrained`.
            dtype: as in `save_pretrained`.
            private: whether a new repository is; None is the account's default.
            token: None takes the one of `hf auth login`.
            branch: None is the main one.
            upload: `commit_message`, `create_pr` and so on of huggingface_hub's `upload_folder`.

        Raises:
            MotionGPT3Error: the hub is out of reach or refuses.
        """
        try:
            api = HfApi(token=token)
            name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            with TemporaryDirectory() as folder:
                self.save_pretrained(folder, include_backbone=include_backbone, dtype=dtype)
                return str(api.upload_folder(repo_id=name, folder_path=folder, revision=branch, **upload))
        except Exception as error:  # the library raises too many kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MotionGPT3Error(f"cannot push to {repo_id!r} on the hub ({reason[:200]})") from None

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save_pretrained(save_directory)

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None, *, device: str = "cpu", **hub: Any) -> MotionGPT3:  # type: ignore[override]
        """Load a model.

        Args:
            model: a folder, a hub id, or None for the model that ships inside the package.
            device: where to put it.
            hub: options of huggingface_hub, such as `revision` and `token`.

        Raises:
            MotionGPT3Error: there is no such model or device, or the model is damaged.
        """
        folder = EMBEDDED if model is None else Path(model)
        if model is not None and not folder.is_dir():
            folder = download(str(model), **hub)
        _usable(device)
        config, sha256, complete = read_settings(folder)
        backbone = load_backbone(config.backbone, sha256=sha256)
        with torch.device("meta"):  # sizes that the file does not hold cost nothing
            result = cls(config, backbone)
        load_weights(result, folder, absent=() if complete else _backbone_names(backbone), assign=True)
        return result.to(device, torch.float32).eval()

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> MotionGPT3:
        return cls.from_pretrained(model_id)

    def predict(
        self,
        motion: Motion,
        seconds: float,
        prompt: str | None = None,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> Motion:
        """The motion, bit for bit, and `seconds` more of it at its frame rate.

        Args:
            motion: at least one second; the model reads the last two.
            seconds: of the new part; any length.
            prompt: what happens in it, or None.
            seed, guidance, steps: as in `generate`.
            progress: wraps the list of windows that are drawn one after the other.

        Raises:
            MotionGPT3Error: a motion that is too short or of another skeleton, an empty prompt, a number out of range.
        """
        return continuing.predict(self, motion, seconds, prompt, seed, guidance, steps, progress)

    def inbetween(
        self,
        start: Motion,
        end: Motion,
        seconds: float,
        prompt: str | None = None,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> Motion:
        """`start`, `seconds` of new motion from its last frame to the first of `end`, and `end`.

        Arguments and errors as in `predict`; both motions come back bit for bit and must have the same frame rate.
        """
        return continuing.inbetween(self, start, end, seconds, prompt, seed, guidance, steps, progress)

    def compose(
        self,
        prompts: Sequence[str | tuple[str, float]],
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> Motion:
        """One motion that does what each prompt says, one after the other.

        Args:
            prompts: sentences, or (sentence, seconds) of any length; without seconds the model decides.
            seed, guidance, steps: as in `generate`.
            progress: wraps the list of prompts.

        Raises:
            MotionGPT3Error: no prompt, an empty or endless one, or a number out of range.
        """
        return continuing.compose(self, prompts, seed, guidance, steps, progress)[0]


def read_settings(folder: Path) -> tuple[MotionGPT3Config, str, bool]:
    """A model folder's configuration, the hash of its language model's file, and whether it holds that model too.

    Raises:
        MotionGPT3Error: it is no model folder, or one of another version.
    """
    if folder == EMBEDDED and not folder.is_dir():
        raise MotionGPT3Error("this copy of motiongpt3 carries no model: name a folder or a hub id")
    values = read_config(folder)
    identity, complete = values.pop("backbone_identity", {}), values.pop("includes_backbone", False)
    if values.pop("format", None) != 1 or not isinstance(identity, dict):
        raise MotionGPT3Error(f"{folder} was written by another version of motiongpt3: update the package")
    return MotionGPT3Config.from_dict(values), str(identity.get("sha256") or ""), bool(complete)


def _usable(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise MotionGPT3Error(f"this PyTorch cannot use the device {device!r} ({reason[:100]})") from None


def _backbone_names(backbone: TextBackbone) -> tuple[str, ...]:
    """Names of the language model's own tensors inside MotionGPT3; the rows of the new tokens are ours."""
    return tuple(f"backbone.{name}" for name, _ in backbone.named_parameters() if name != "special")


def download(model: str, **options: Any) -> Path:
    """The folder of a model on the hub: configuration, weights and card.

    Raises:
        MotionGPT3Error: it is not there, or the hub is out of reach.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=[CONFIG, WEIGHTS, CARD], **options))
    except Exception as error:  # the library raises too many kinds
        reason = (str(error).splitlines() or [""])[0]
        raise MotionGPT3Error(f"no model {model!r}: neither a folder here nor on the hub ({reason[:200]})") from None
