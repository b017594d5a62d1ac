"""A model to and from a folder or the hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import HfApi, ModelHubMixin
from torch import nn

from motiongpt3.checkpoints.folder import CARD, CONFIG, WEIGHTS, load_weights, read_config, write_folder
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import TextBackbone, load_backbone
from motiongpt3.models.backbone_folder import SETTINGS, TOKENIZER, backbone_settings, read_backbone, write_backbone
from motiongpt3.models.config import MotionGPT3Config, Profile
from motiongpt3.models.low_rank import low_rank_layers, merge_low_rank

if TYPE_CHECKING:
    from motiongpt3.models.motiongpt3 import MotionGPT3

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
            merge_low_rank(self)
            config["text_rank"] = None
            updates = tuple(f"{name}.{part}" for name, _ in low_rank_layers(self) for part in ("down", "up"))
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
        from motiongpt3.models.motiongpt3 import MotionGPT3

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
