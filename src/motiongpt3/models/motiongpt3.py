"""MotionGPT3: words in, motion out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from huggingface_hub import HfApi, ModelHubMixin
from torch import Tensor, nn

from motiongpt3.checkpoints.folder import CARD, CONFIG, WEIGHTS, load_weights, parse_config, read_config, write_folder
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.official import Profile
from motiongpt3.instructions.prompt import Style, generation_prompt
from motiongpt3.models import describing
from motiongpt3.models.backbone import TextBackbone, load_backbone
from motiongpt3.models.backbone_folder import SETTINGS, TOKENIZER, backbone_settings, read_backbone, write_backbone
from motiongpt3.models.bimodal import BimodalTransformer
from motiongpt3.models.diffusion_head import DiffusionHead, HeadConfig, time_embedding
from motiongpt3.models.kv_cache import KVCache
from motiongpt3.models.layout import Layout, MotionTokens
from motiongpt3.models.low_rank import add_low_rank, low_rank_layers, merge_low_rank
from motiongpt3.models.reading import Motions
from motiongpt3.models.request import check_request
from motiongpt3.models.stream import Stream, Tokens
from motiongpt3.models.vae import MotionVAE, VAEConfig
from motiongpt3.models.writing import Decoding
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
    interface: Literal["queries", "holders"] = "queries"
    """How motions enter and leave the motion stream: ours, or that of the official checkpoints (`models.official`)."""
    profile: Profile = "default"
    """Prompts and sampler of an official checkpoint: the better ones of ours, or the official ones."""
    length_unit: int = 4
    """Frames per class of the length head."""
    stage: int = 1
    """The last training stage: 1 makes motions from words; from 2 on the model reads motions, too."""
    text_rank: int | None = None
    """Rank of the update that stage 3 gave the text stream's attention; None: the language model is as pretrained."""
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


class Job(NamedTuple):
    """A motion to draw: the user's words, the cleaned ones, duration in frames (None: the model decides) and seed."""

    prompt: str
    caption: str
    frames: int | None
    seed: int


class MotionGPT3(nn.Module, ModelHubMixin):
    """A language model and a motion stream that share attention, a length head, a diffusion head and a motion VAE.

    One text-to-motion pass: words and <start_of_motion> go through the text stream; one length query and K motion
    queries follow in the motion stream; the length query's hidden state predicts the duration, whose embedding is added
    to the K queries; their hidden states condition the diffusion head, which draws the VAE's latents.

    Args:
        config: sizes.
        backbone: the text stream with its tokenizer and embeddings.
    """

    interface: Literal["queries", "holders"] = "queries"

    def __init__(self, config: MotionGPT3Config, backbone: TextBackbone) -> None:
        super().__init__()
        head = replace(
            config.head,
            queries=config.queries,
            hidden=config.motion_width,
            latent_tokens=config.vae.latent_tokens,
            latent_channels=config.vae.latent_channels,
        )
        self.config = config = replace(config, head=head, interface=self.interface)
        self.backbone = backbone
        if config.text_rank is not None:
            add_low_rank(backbone.stream, config.text_rank)
        stream = backbone.stream.config.for_motion(config.motion_width, config.motion_mlp, config.motion_dropout)
        self.motion = Stream(stream)
        BimodalTransformer(backbone.stream, self.motion, config.shared_layers)  # refuses what does not fit together
        self._make_interface()
        self.head = DiffusionHead(config.head)
        self.vae = MotionVAE(config.vae)

    def _make_interface(self) -> None:
        """The motion stream's own inputs, and the length head."""
        config = self.config
        self.queries = nn.Parameter(torch.randn(config.queries + 1, config.motion_width) * 0.02)
        self.embed_length = nn.Sequential(
            nn.Linear(256, config.motion_width), nn.SiLU(), nn.Linear(config.motion_width, config.motion_width)
        )
        if config.stage > 1:
            self.understand = nn.Linear(config.vae.latent_channels, config.motion_width)
            self.shown = nn.Parameter(torch.randn(config.vae.latent_tokens + 1, config.motion_width) * 0.02)
        self.predict_length = nn.Linear(config.motion_width, -(-config.vae.max_frames // config.length_unit))

    @property
    def transformer(self) -> BimodalTransformer:
        """The two streams as one transformer; it owns no parameters of its own."""
        return BimodalTransformer(self.backbone.stream, self.motion, self.config.shared_layers)

    @property
    def max_seconds(self) -> float:
        """Longest motion the model makes."""
        return self.config.max_seconds

    @property
    def motion_tokens(self) -> MotionTokens:
        """How motions are laid out among words."""
        special = self.backbone.start_of_motion, self.backbone.end_of_motion
        return MotionTokens(*special, shown=self.config.vae.latent_tokens + 1, drawn=len(self.queries))

    def forward(
        self, layout: Layout, shown: Motions, asked: Tensor | None = None, cache: KVCache | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Run sequences of words and motions.

        Args:
            layout: where every token stands.
            shown: the motions that are read.
            asked: (R,) frames of the motions that are drawn; None: there are none.
            cache: what stands before; it is extended.

        Returns:
            hidden states of the text tokens (B, T, text width), None without any, and of the queries of the drawn
            motions (R, K + 1, motion width), the length query first.
        """
        tokens = [self.motion_inputs(shown).flatten(0, 1)] if len(shown.frames) else []
        if asked is not None:
            tokens.append(self.query_tokens(asked).flatten(0, 1))
        text = motion = None
        if layout.ids.shape[1]:
            text = Tokens(self.backbone.embed(layout.ids), layout.positions, layout.mask)
        if layout.slots.shape[1]:
            motion = Tokens(torch.cat(tokens)[layout.slots], layout.slot_positions, layout.slot_mask)
        words, thoughts = self.transformer(text, motion, cache)
        if thoughts is None:
            thoughts = self.queries.new_zeros(0, 1, self.config.motion_width)
        return words, thoughts.flatten(0, 1)[layout.drawn]

    def motion_inputs(self, motions: Motions) -> Tensor:
        """Motion tokens of motions that are read: their duration, then their latents, (R, N + 1, motion width)."""
        if self.config.stage == 1:
            raise MotionGPT3Error("this model was trained for text to motion alone: it cannot read motions")
        latents = self.understand(motions.latents)
        return torch.cat([self.length_embedding(motions.frames), latents], 1) + self.shown

    def query_tokens(self, frames: Tensor) -> Tensor:
        """Motion tokens of motions that are drawn: the length query, then K queries, (R, K + 1, motion width).

        `frames` (R,) is the duration the K queries are told; the length query does not know it.
        """
        told = self.length_embedding(frames).expand(-1, len(self.queries) - 1, -1)
        return self.queries + torch.cat([torch.zeros_like(told[:, :1]), told], 1)

    def tokens(self, captions: Sequence[str]) -> list[list[int]]:
        """Token ids of cleaned captions, each wrapped as a prompt and ended by <start_of_motion>."""
        ids, mask = self.backbone.tokenize([generation_prompt(text, self.config.prompt_style) for text in captions])
        start = self.backbone.start_of_motion
        return [[*row[: int(used)], start] for row, used in zip(ids.tolist(), mask.sum(1), strict=True)]

    def read(self, tokens: Sequence[Sequence[int]]) -> tuple[KVCache, Tensor]:
        """Run the text stream over prompts from `tokens`: what motion queries will see, and (B,) where they start."""
        device = self.backbone.embedding.device
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
        transformer = self.transformer
        if frames is None:
            queries = self.queries.expand(batch, -1, -1)
            _, hidden = transformer(None, Tokens.of(queries[:, :1], start=start), cache)
            logits = self.predict_length(hidden[:, 0])
            later = queries[:, 1:] + self.length_embedding(self.predicted_frames(logits))
            _, hidden = transformer(None, Tokens.of(later, start=start + 1), cache)
            return logits, hidden
        _, hidden = transformer(None, Tokens.of(self.query_tokens(frames), start=start), cache)
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
        seconds: float | Sequence[float | None] | None = ...,
        samples: Literal[1] = ...,
        seed: int | Sequence[int] = ...,
        guidance: float | None = ...,
        steps: int | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> Motion: ...

    @overload
    def generate(
        self,
        prompt: str | Sequence[str],
        seconds: float | Sequence[float | None] | None = ...,
        samples: int = ...,
        seed: int | Sequence[int] = ...,
        guidance: float | None = ...,
        steps: int | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> Motion | list[Motion]: ...

    @torch.inference_mode()
    def generate(
        self,
        prompt: str | Sequence[str],
        seconds: float | Sequence[float | None] | None = None,
        samples: int = 1,
        seed: int | Sequence[int] = 0,
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> Motion | list[Motion]:
        """Motions that do what the prompts say.

        Args:
            prompt: a sentence, or several.
            seconds: duration, at most `max_seconds`; None follows the length words of a prompt ("for three seconds",
                "with 80 frames"), and lets the model decide where there are none. One for
                all prompts, or one for each.
            samples: motions per prompt. Sample k is drawn with seed + k, whatever else is drawn with it.
            seed: same seed, same machine, same motion. One for all prompts, or one for each.
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
        each = zip(prompts, asked.captions, asked.frames, asked.seeds, strict=True)
        jobs = [Job(words, text, frames, seed + k) for words, text, frames, seed in each for k in range(asked.samples)]
        groups = ([n for n, job in enumerate(jobs) if (job.frames is None) is decide] for decide in (False, True))
        batches = [group[i : i + 32] for group in groups for i in range(0, len(group), 32)]
        made: dict[int, Motion] = {}
        for batch in progress(batches):
            drawn = self._draw([jobs[n] for n in batch], asked.guidance, asked.steps)
            for n, joints in zip(batch, drawn, strict=True):
                made[n] = Motion(joints, self.config.fps, jobs[n].prompt, f"seed {jobs[n].seed}")
        motions = [made[n] for n in range(len(jobs))]
        return motions[0] if isinstance(prompt, str) and asked.samples == 1 else motions

    def _draw(self, jobs: list[Job], guidance: float, steps: int) -> list[np.ndarray]:
        """Joints (T, J, 3) of jobs with a duration, or of jobs without; a text is read once for all its samples."""
        device = self.queries.device
        texts = list(dict.fromkeys((job.caption, job.frames) for job in jobs))
        cache, start = self.read(self.tokens([caption for caption, _ in texts]))
        least = min(self.config.vae.min_frames, self.config.vae.max_frames)
        wanted = [max(frames, least) for _, frames in texts if frames is not None]
        asked = torch.tensor(wanted, device=device) if wanted else None
        logits, hidden = self.think(cache, start, asked)
        rows = torch.tensor([texts.index((job.caption, job.frames)) for job in jobs], device=device)
        lengths = (self.predicted_frames(logits) if asked is None else asked)[rows]
        generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
        shape = (self.config.vae.latent_tokens, self.config.vae.latent_channels)
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
        latents = self.head.sample(hidden[rows], noise, steps, guidance)
        joints = set_bone_lengths(self.vae.decode_joints(latents, lengths)).cpu().numpy()
        return [clip[: job.frames or int(n)] for clip, job, n in zip(joints, jobs, lengths, strict=True)]

    @overload
    def caption(
        self,
        motion: Motion,
        samples: Literal[1] = ...,
        beams: int = ...,
        seed: int = ...,
        decoding: Decoding | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> str: ...

    @overload
    def caption(
        self,
        motion: Motion | Sequence[Motion],
        samples: int = ...,
        beams: int = ...,
        seed: int = ...,
        decoding: Decoding | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> str | list[str]: ...

    def caption(
        self,
        motion: Motion | Sequence[Motion],
        samples: int = 1,
        beams: int = 1,
        seed: int = 0,
        decoding: Decoding | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> str | list[str]:
        """What happens in motions, in English.

        Args:
            motion: a motion of at least a second, or several; one longer than `max_seconds` is described in parts.
            samples: captions per motion; more than one are drawn, with seed, seed + 1 and so on.
            beams: width of the beam search; 1 takes the likeliest word each time.
            seed: of the draws.
            decoding: how words are chosen, instead of `beams` and `seed`.
            progress: wraps the list of batches.

        Returns:
            A sentence for one motion and one sample, else a flat list, motion by motion.

        Raises:
            MotionGPT3Error: a motion that is too short or of another skeleton, a number out of range, or a model that
                was trained for text to motion alone.
        """
        motions = [motion] if isinstance(motion, Motion) else list(motion)
        found = describing.caption(self, motions, samples, beams, seed, decoding, progress)
        return (
            found[0][0] if isinstance(motion, Motion) and samples == 1 else [text for texts in found for text in texts]
        )

    def save_pretrained(  # type: ignore[override]
        self, folder: str | Path, *, include_backbone: bool = False, dtype: torch.dtype | None = None, **hub: Any
    ) -> None:
        """Write config.json and model.safetensors.

        Args:
            folder: where to.
            include_backbone: also write the language model's weights; otherwise it is named with its hash. One that
                came from no file is always written.
            dtype: of the stored tensors; None keeps what they are.
            hub: `repo_id`, `push_to_hub` and so on of huggingface_hub.
        """
        identity = self.backbone.identity
        include_backbone = include_backbone or not identity["sha256"]
        config = {
            "format": 1,
            **asdict(self.config),
            "backbone_identity": identity,
            "includes_backbone": include_backbone,
        }
        tensors = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if include_backbone or not name.startswith(backbone_names(self.backbone))
        }
        write_folder(folder, config, tensors, dtype)
        if include_backbone:
            write_backbone(folder, backbone_settings(self.backbone), self.backbone.tokenizer)
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
    def from_pretrained(  # type: ignore[override]
        cls, model: str | Path | None = None, *, device: str = "cpu", profile: Profile | None = None, **hub: Any
    ) -> MotionGPT3:
        """Load a model.

        Args:
            model: a folder, a hub id, or None for the model that ships inside the package.
            device: where to put it.
            profile: of a converted official checkpoint, see `models.official`; None: as stored.
            hub: options of huggingface_hub, such as `revision` and `token`.

        Raises:
            MotionGPT3Error: there is no such model or device, or the model is damaged.
        """
        folder = EMBEDDED if model is None else Path(model)
        if model is not None and not folder.is_dir():
            folder = download(str(model), **hub)
        _usable(device)
        config, sha256, complete = read_settings(folder, profile)
        if complete and (folder / SETTINGS).is_file():
            backbone = read_backbone(folder, config.backbone, sha256)
        else:
            backbone = load_backbone(config.backbone, sha256=sha256)
        with torch.device("meta"):  # sizes that the file does not hold cost nothing
            result = _kind(config)(config, backbone)
        load_weights(result, folder, absent=() if complete else backbone_names(backbone), assign=True)
        result.to(device, torch.float32).eval()
        merge_low_rank(result)
        return result

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> MotionGPT3:
        return cls.from_pretrained(model_id)


def _kind(config: MotionGPT3Config) -> type[MotionGPT3]:
    if config.interface == "queries":
        return MotionGPT3
    from motiongpt3.models.official import OfficialMotionGPT3

    return OfficialMotionGPT3


def read_settings(folder: Path, profile: Profile | None = None) -> tuple[MotionGPT3Config, str, bool]:
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
    config = MotionGPT3Config.from_dict(values)
    if profile is not None:
        from motiongpt3.models.official import with_profile

        config = with_profile(config, profile)
    return config, str(identity.get("sha256") or ""), bool(complete)


def _usable(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise MotionGPT3Error(f"this PyTorch cannot use the device {device!r} ({reason[:100]})") from None


def backbone_names(backbone: TextBackbone) -> tuple[str, ...]:
    """Names of the language model's own tensors inside MotionGPT3; new tokens' rows and low-rank updates are ours."""
    ours = {"special", *(f"{layer}.{part}" for layer, _ in low_rank_layers(backbone) for part in ("down", "up"))}
    return tuple(f"backbone.{name}" for name, _ in backbone.named_parameters() if name not in ours)


def download(model: str, **options: Any) -> Path:
    """The folder of a model on the hub: configuration, weights and card.

    Raises:
        MotionGPT3Error: it is not there, or the hub is out of reach.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=[CONFIG, WEIGHTS, CARD, SETTINGS, TOKENIZER], **options))
    except Exception as error:  # the library raises too many kinds
        reason = (str(error).splitlines() or [""])[0]
        raise MotionGPT3Error(f"no model {model!r}: neither a folder here nor on the hub ({reason[:200]})") from None
