"""MotionGPT3, the public model: words in, motion out, and the other way round.

Each method of `MotionGPT3` is a task; what it does stands in the module of the task (`captioning`, `chat`,
`completion`) and in `network`. `Pretrained` brings a model to and from a folder or the hub. The module of official
checkpoints is imported only where one is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Unpack, overload

import torch
from huggingface_hub import HfApi, ModelHubMixin
from torch import nn

from motiongpt3.control.constraints import AnyConstraint, check_constraints
from motiongpt3.control.report import ConstrainedMotion
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models import captioning, completion, constrained
from motiongpt3.models.backbone import (
    SETTINGS,
    TOKENIZER,
    TextBackbone,
    backbone_settings,
    load_backbone,
    read_backbone,
    write_backbone,
)
from motiongpt3.models.backbone_files import split_revision
from motiongpt3.models.captioning import CaptionKeywords, CaptionOptions
from motiongpt3.models.chat import Chat, Reply, answer
from motiongpt3.models.config import MotionGPT3Config, Profile
from motiongpt3.models.decoding import GenerationConfig
from motiongpt3.models.lora import lora_layers, merge_lora
from motiongpt3.models.network import BATCH, Network
from motiongpt3.models.request import DrawKeywords, DrawOptions, check_generate
from motiongpt3.motion.motion import Motion
from motiongpt3.serialization import CARD, CONFIG, WEIGHTS, load_weights, read_config, write_folder

EMBEDDED = Path(__file__).resolve().parent.parent / "checkpoints" / "mini"
"""The model that ships inside the package."""


class Pretrained(nn.Module, ModelHubMixin):
    """What a MotionGPT3 does with folders: configuration and weights, with or without its language model."""

    config: MotionGPT3Config
    backbone: TextBackbone

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
        tensors = self.state_dict()
        if not include_backbone:
            others = backbone_names(self.backbone)
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(others)}
        elif self.config.text_rank is not None:  # the weights that go along have their updates in them
            merge_lora(self)
            config["text_rank"] = None
            updates = tuple(f"{name}.{part}" for name, _ in lora_layers(self) for part in ("down", "up"))
            tensors = {name: tensor for name, tensor in tensors.items() if name not in updates}
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
            model: a folder, a hub id such as "me/mine" or "me/mine@COMMIT", or None for the model that ships inside the
                package.
            device: where to put it.
            profile: of a converted official checkpoint, see `official.model`; None: as stored.
            hub: options of huggingface_hub, such as `revision` and `token`.

        Raises:
            MotionGPT3Error: there is no such model or device, or the model is damaged.
        """
        folder = EMBEDDED if model is None else Path(model)
        if model is not None and not folder.is_dir():
            folder = download(str(model), **hub)
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise MotionGPT3Error(f"this PyTorch cannot use the device {device!r} ({reason[:100]})") from None
        config, sha256, complete = read_settings(folder, profile)
        if complete and (folder / SETTINGS).is_file():
            backbone = read_backbone(folder, config.backbone, sha256)
        else:
            backbone = load_backbone(config.backbone, sha256=sha256)
        with torch.device("meta"):  # sizes that the file does not hold cost nothing
            result = _kind(config)(config, backbone)
        load_weights(result, folder, absent=() if complete else backbone_names(backbone), assign=True)
        result.to(device, torch.float32).eval()
        merge_lora(result)
        return result

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> MotionGPT3:
        return cls.from_pretrained(model_id)


def _kind(config: MotionGPT3Config) -> type[MotionGPT3]:
    if config.interface == "queries":
        return MotionGPT3
    from motiongpt3.official.model import OfficialMotionGPT3

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
    if (pinned := str(identity.get("name"))).startswith(f"{config.backbone}@"):
        config = replace(config, backbone=pinned)  # the commit that the model was trained with
    if profile is not None:
        from motiongpt3.official.model import with_profile

        config = with_profile(config, profile)
    return config, str(identity.get("sha256") or ""), bool(complete)


def backbone_names(backbone: TextBackbone) -> tuple[str, ...]:
    """Names of the language model's own tensors inside MotionGPT3; new tokens' rows and low-rank updates are ours."""
    ours = {"special", *(f"{layer}.{part}" for layer, _ in lora_layers(backbone) for part in ("down", "up"))}
    return tuple(f"backbone.{name}" for name, _ in backbone.named_parameters() if name not in ours)


def download(model: str, **options: Any) -> Path:
    """The folder of a model on the hub: configuration, weights and card.

    Raises:
        MotionGPT3Error: it is not there, or the hub is out of reach.
    """
    from huggingface_hub import snapshot_download

    repository, revision = split_revision(model)
    options = {"revision": revision, **options} if revision else options
    try:
        return Path(
            snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS, CARD, SETTINGS, TOKENIZER], **options)
        )
    except Exception as error:  # the library raises too many kinds
        reason = (str(error).splitlines() or [""])[0]
        raise MotionGPT3Error(f"no model {model!r}: neither a folder here nor on the hub ({reason[:200]})") from None


class MotionGPT3(Network, Pretrained):
    """The model and all it can do: each method is a task. See `Network` for how it is built.

    Args:
        config: sizes.
        backbone: the text stream with its tokenizer and embeddings.
    """

    @property
    def max_seconds(self) -> float:
        """Longest motion the model makes."""
        return self.config.max_seconds

    @property
    def tasks(self) -> tuple[str, ...]:
        """The methods that the model was trained for; to describe motions takes stage 2."""
        making = ("generate", "predict", "inbetween", "compose")
        return making if self.config.stage == 1 else (*making, "caption", "chat")

    @overload
    def generate(
        self,
        prompt: str,
        seconds: float | Sequence[float | None] | None = ...,
        samples: Literal[1] = ...,
        constraints: tuple[()] = ...,
        best_effort: bool = ...,
        **draw: Unpack[DrawKeywords],
    ) -> Motion: ...

    @overload
    def generate(
        self,
        prompt: str,
        seconds: float | Sequence[float | None] | None = ...,
        samples: Literal[1] = ...,
        constraints: Sequence[AnyConstraint] = ...,
        best_effort: bool = ...,
        **draw: Unpack[DrawKeywords],
    ) -> ConstrainedMotion: ...

    @overload
    def generate(
        self,
        prompt: str | Sequence[str],
        seconds: float | Sequence[float | None] | None = ...,
        samples: int = ...,
        constraints: Sequence[AnyConstraint] = ...,
        best_effort: bool = ...,
        **draw: Unpack[DrawKeywords],
    ) -> Motion | list[Motion]: ...

    @torch.inference_mode()
    def generate(
        self,
        prompt: str | Sequence[str],
        seconds: float | Sequence[float | None] | None = None,
        samples: int = 1,
        constraints: Sequence[AnyConstraint] = (),
        best_effort: bool = False,
        **draw: Unpack[DrawKeywords],
    ) -> Motion | list[Motion]:
        """Motions that do what the prompts say.

        Args:
            prompt: a sentence, or several.
            seconds: duration, at most `max_seconds`; None follows the length words of a prompt ("for three seconds",
                "with 80 frames"), and lets the model decide where there are none. One for
                all prompts, or one for each.
            samples: motions per prompt. Sample k is drawn with seed + k, whatever else is drawn with it.
            constraints: what is held in every motion, see `motiongpt3.constraints`; each motion then is a
                `ConstrainedMotion` and has a `constraint_report`.
            best_effort: meet what can be met of the constraints and report the rest, instead of refusing it.
            draw: seed, guidance, steps and progress: see `DrawOptions`. One seed for all prompts, or one for each.

        Returns:
            A Motion for one prompt and one sample, else a flat list, prompt by prompt.

        Raises:
            MotionGPT3Error: an empty or endless prompt, a number out of range, or constraints that cannot be met.
        """
        if not isinstance(prompt, str | Sequence):
            raise MotionGPT3Error(f"the prompt must be a sentence or a list of them, not {type(prompt).__name__}")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        requests, options = check_generate(self.config, prompts, seconds, samples, DrawOptions(**draw))
        check_constraints(constraints)
        if constraints:
            held = [
                constrained.draw(self, each, constraints, options, best_effort) for each in options.progress(requests)
            ]
            return held[0] if isinstance(prompt, str) and len(held) == 1 else [*held]
        groups = ([n for n, r in enumerate(requests) if (r.frames is None) is decide] for decide in (False, True))
        batches = [group[i : i + BATCH] for group in groups for i in range(0, len(group), BATCH)]
        made: dict[int, Motion] = {}
        for batch in options.progress(batches):
            made.update(zip(batch, self.draw_motions([requests[n] for n in batch], options), strict=True))
        motions = [made[n] for n in range(len(requests))]
        return motions[0] if isinstance(prompt, str) and len(motions) == 1 else motions

    @overload
    def caption(self, motion: Motion, samples: Literal[1] = ..., **options: Unpack[CaptionKeywords]) -> str: ...

    @overload
    def caption(
        self, motion: Motion | Sequence[Motion], samples: int = ..., **options: Unpack[CaptionKeywords]
    ) -> str | list[str]: ...

    def caption(
        self, motion: Motion | Sequence[Motion], samples: int = 1, **options: Unpack[CaptionKeywords]
    ) -> str | list[str]:
        """What happens in motions, in English.

        Args:
            motion: a motion of at least a second, or several; one longer than `max_seconds` is described in parts.
            samples: captions per motion; more than one are drawn, with seed, seed + 1 and so on.
            options: beams, seed, decoding, candidates and progress: see `CaptionOptions`.

        Returns:
            A sentence for one motion and one sample, else a flat list, motion by motion.

        Raises:
            MotionGPT3Error: a motion that is too short or of another skeleton, a number out of range, or a model that
                was trained for text to motion alone.
        """
        if not isinstance(motion, Motion | Sequence):
            raise MotionGPT3Error(f"give a Motion or a list of them, not {type(motion).__name__}")
        motions = [motion] if isinstance(motion, Motion) else list(motion)
        found = captioning.caption(self, motions, samples, CaptionOptions(**options))
        return found[0][0] if isinstance(motion, Motion) and samples == 1 else [text for each in found for text in each]

    def chat(
        self,
        messages: Chat,
        decoding: GenerationConfig | None = None,
        **draw: Unpack[DrawKeywords],
    ) -> Reply:
        """The answer to a conversation: words, a motion, or both, as the model decides.

        Args:
            messages: {"role": "user" or "assistant", "content": …} in turn, a user's first and last. The content is
                text, a Motion, or a list of these in reading order. A motion longer than `max_seconds` is cut.
            decoding: how words are chosen; None takes the likeliest.
            draw: see `DrawOptions`; the seed is that of the motion, and of the words where they are drawn.

        Raises:
            MotionGPT3Error: an empty or endless conversation or message, roles out of turn, a motion that cannot be
                read, or a model that was trained for text to motion alone.
        """
        return answer(self, messages, decoding, DrawOptions(**draw))

    def predict(
        self,
        motion: Motion,
        seconds: float,
        prompt: str | None = None,
        **draw: Unpack[DrawKeywords],
    ) -> Motion:
        """The motion, bit for bit, and `seconds` more of it at its frame rate.

        Args:
            motion: at least one second; the model reads the last two.
            seconds: of the new part; any length.
            prompt: what happens in it, or None.
            draw: see `DrawOptions`.

        Raises:
            MotionGPT3Error: a motion that is too short or of another skeleton, an empty prompt, a number out of range.
        """
        return completion.predict(self, motion, seconds, prompt, DrawOptions(**draw))

    def inbetween(
        self,
        start: Motion,
        end: Motion,
        seconds: float,
        prompt: str | None = None,
        **draw: Unpack[DrawKeywords],
    ) -> Motion:
        """`start`, `seconds` of new motion from its last frame to the first of `end`, and `end`.

        Arguments and errors as in `predict`; both motions come back bit for bit and must have the same frame rate.
        """
        return completion.inbetween(self, start, end, seconds, prompt, DrawOptions(**draw))

    def compose(
        self,
        prompts: Sequence[str | tuple[str, float]],
        **draw: Unpack[DrawKeywords],
    ) -> Motion:
        """One motion that does what each prompt says, one after the other.

        Args:
            prompts: sentences, or (sentence, seconds) of any length; without seconds the model decides.
            draw: see `DrawOptions`.

        Raises:
            MotionGPT3Error: no prompt, an empty or endless one, or a number out of range.
        """
        return completion.compose(self, prompts, DrawOptions(**draw))[0]
