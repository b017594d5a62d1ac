"""The text-motion evaluator of Guo et al. 2022, "Generating Diverse and Natural 3D Human Motions from Text".

Three networks that map captions and motions into one space: R-precision, MM-Dist, FID and diversity on HumanML3D are
distances in it. `motiongpt3 convert evaluator` makes it from the published weights (`finest.tar`). `WordVectors` read
captions for it, from a user's own files; `GuoTextMotion` has the interface of our own evaluator.
"""

from __future__ import annotations

import pickletools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.language import lemma_tokens
from motiongpt3.motion.features import joints_to_features
from motiongpt3.motion.motion import Motion
from motiongpt3.serialization import load_weights, parse_config, read_config, write_folder
from motiongpt3.untrusted import load_json, read_npy

GUO_KIND = "guo_evaluator"
"""What config.json calls the evaluator's sizes."""
UNIT = 4
"""Frames of one movement."""
CONTACTS = 4
"""Channels at the end of a frame's features, the foot contacts, that the networks do not see."""


@dataclass(frozen=True)
class GuoConfig:
    """Sizes of the evaluator; the defaults are those of the published one for HumanML3D."""

    features: int = 263
    """Channels of one frame, foot contacts included."""
    word_channels: int = 300
    """Channels of a word vector."""
    word_classes: int = 15
    """Classes of words: parts of speech and a few of meaning."""
    text_width: int = 512
    """Hidden channels of the text encoder, each direction."""
    movement_width: int = 512
    """Hidden channels of the movement encoder."""
    movement_channels: int = 512
    """Channels of one movement."""
    motion_width: int = 1024
    """Hidden channels of the motion encoder, each direction."""
    channels: int = 512
    """Channels of the shared space."""


class SequenceEncoder(nn.Module):
    """A bidirectional GRU with a learned start; its two last states become one vector."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.start = nn.Parameter(torch.randn(2, 1, width))
        self.out = nn.Sequential(
            nn.Linear(2 * width, width), nn.LayerNorm(width), nn.LeakyReLU(0.2), nn.Linear(width, outputs)
        )

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """x (B, n, inputs) and lengths (B,), or None to run over the padding too -> (B, outputs)."""
        x = self.embed(x)
        start = self.start.expand(-1, len(x), -1).contiguous()
        if lengths is None:
            _, last = self.gru(x, start)
        else:
            _, last = self.gru(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False), start)
        return self.out(torch.cat([last[0], last[1]], dim=-1))


class GuoEvaluator(nn.Module):
    """Captions and motions as vectors whose Euclidean distance says how well they fit.

    The statistics that normalise features for it, which are not those a generator is trained with, are buffers.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: GuoConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_class = nn.Linear(config.word_classes, config.word_channels)
        self.text = SequenceEncoder(config.word_channels, config.text_width, config.channels)
        self.movement = nn.Sequential(
            nn.Conv1d(config.features - CONTACTS, config.movement_width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv1d(config.movement_width, config.movement_channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.movement_out = nn.Linear(config.movement_channels, config.movement_channels)
        self.motion = SequenceEncoder(config.movement_channels, config.motion_width, config.channels)
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_std", torch.ones(config.features))

    def normalise(self, features: Tensor) -> Tensor:
        """HumanML3D features (..., F) -> what `embed_motion` takes."""
        return (features - self.feature_mean) / self.feature_std

    def embed_text(self, words: Tensor, classes: Tensor, lengths: Tensor) -> Tensor:
        """Captions, the marks of start and end included.

        Args:
            words: (B, n, word_channels) word vectors.
            classes: (B, n, word_classes) one-hot.
            lengths: (B,) words of each caption, 1 to n.

        Returns:
            (B, channels).
        """
        _check_lengths(lengths, words, 1, "words")
        return self.text(words + self.embed_class(classes), lengths)

    def movements(self, features: Tensor) -> Tensor:
        """Normalised features (B, T, F) -> (B, T // 4, movement_channels), one vector for four frames."""
        x = self.movement(features[..., :-CONTACTS].transpose(1, 2)).transpose(1, 2)
        return self.movement_out(x)

    def embed_motion(self, features: Tensor, lengths: Tensor, packed: bool = True) -> Tensor:
        """Motions.

        The convolutions look two frames past a clip's end, where the padding is: numbers that are to be compared need
        padding of the same value, and of the same length (196 frames in Guo et al.'s protocol) unless packed.

        Args:
            features: (B, T, F), normalised by `normalise`, 0 past each clip's end.
            lengths: (B,) frames of each clip, 4 to T; those beyond a multiple of 4 are not seen.
            packed: stop at each clip's end as Guo et al. do; otherwise run over the padding too and ignore `lengths`,
                as the evaluation of MotionGPT and MotionGPT3 does.

        Returns:
            (B, channels).
        """
        _check_lengths(lengths, features, UNIT, "frames")
        steps = torch.div(lengths, UNIT, rounding_mode="floor")
        return self.motion(self.movements(features), steps if packed else None)

    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors; raises MotionGPT3Error when they cannot be written."""
        write_folder(folder, {"format": 1, GUO_KIND: asdict(self.config)}, self.state_dict())

    @classmethod
    def load(cls, folder: str | Path) -> GuoEvaluator:
        """The evaluator of a folder, in eval mode; raises MotionGPT3Error when there is none or it is damaged."""
        config = read_config(folder)
        if GUO_KIND not in config:
            raise MotionGPT3Error(f"{folder} is no evaluator; make one with `motiongpt3 convert evaluator`")
        with torch.device("meta"):
            evaluator = cls(parse_config(GuoConfig, config[GUO_KIND]))
        load_weights(evaluator, folder, assign=True)
        return evaluator.eval().requires_grad_(False)


def _check_lengths(lengths: Tensor, x: Tensor, least: int, unit: str) -> None:
    if lengths.shape != x.shape[:1] or int(lengths.min()) < least or int(lengths.max()) > x.shape[1]:
        raise MotionGPT3Error(f"lengths must be {len(x)} numbers of {unit}, each {least} to {x.shape[1]}")


CLASSES = (
    "VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV",
    "Loc_VIP", "Body_VIP", "Obj_VIP", "Act_VIP", "Desc_VIP", "OTHER",
)  # fmt: skip
"""The networks' inputs in order: parts of speech, then lists of words for places, bodies, objects, acts, manners."""
MAX_CAPTION_WORDS = 20
"""Words of a caption that are read, the marks of start and end not counted: as Guo et al. do."""
MAX_WORD_BYTES = 1 << 28
"""Of a file with words: 256 MiB, a hundred times what is published."""

Token = tuple[str, str]
"""A lemma and its part of speech."""


class WordVectors:
    """Captions -> what `GuoEvaluator.embed_text` takes.

    A caption of HumanML3D has the lemmas and parts of speech of its text file. Any other, such as a generated one, has
    the lemmas of `lemma_tokens`, each with the part of speech it most often has in those files: close to what spaCy
    gives, not equal to it.

    Args:
        vectors: (V, D) word vectors.
        words: the V words.
        vip: word -> one of the five lists in CLASSES.
        tokens: caption -> its tokens.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        words: Sequence[str],
        vip: Mapping[str, str],
        tokens: Mapping[str, Sequence[Token]],
    ) -> None:
        self.vectors = torch.from_numpy(np.asarray(vectors, np.float32))
        self.places = {word: number for number, word in enumerate(words)}
        self.vip, self.tokens = dict(vip), dict(tokens)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for each in tokens.values():
            for word, part in each:
                counts[word][part] += 1
        self.usual = {word: parts.most_common(1)[0][0] for word, parts in counts.items()}

    @classmethod
    def open(cls, folder: str | Path, channels: int = 300) -> WordVectors:
        """Read a folder with `our_vab_data.npy` and `our_vab_words.pkl` as Guo et al. publish them (or the words as
        `our_vab_words.txt`, one a line), `texts/` of HumanML3D, and `classes.json`: a list of words for each of
        Loc_VIP, Body_VIP, Obj_VIP, Act_VIP and Desc_VIP, which their code has.

        The pickled list is taken apart, never executed.

        Raises:
            MotionGPT3Error: a file is missing or damaged, or vectors have another size.
        """
        folder = Path(folder)
        try:
            words = _words(folder)
            (folder / "our_vab_data.npy").stat()  # an absent one is told as the other files are
            vectors = read_npy(folder / "our_vab_data.npy")
            lists = load_json(_bytes(folder / "classes.json"))
            if set(lists) != set(CLASSES[9:14]) or not all(isinstance(group, list) for group in lists.values()):
                raise ValueError(f"classes.json needs lists for {', '.join(CLASSES[9:14])}")
            vip = {str(word): name for name, group in lists.items() for word in group}
            tokens = dict(_tokens(sorted((folder / "texts").glob("*.txt"))))
        except OSError as error:
            raise MotionGPT3Error(
                f"cannot read {error.filename or folder}: {error.strerror or error}; word vectors are a folder with "
                "our_vab_data.npy, our_vab_words.pkl, classes.json and texts, see docs/protocols.md"
            ) from None
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise MotionGPT3Error(f"the word vectors in {folder} are damaged: {str(error).splitlines()[0]}") from None
        if vectors.shape != (len(words), channels) or not np.isfinite(vectors).all() or "unk" not in words:
            raise MotionGPT3Error(
                f"the word vectors in {folder} do not fit: {vectors.shape} numbers for {len(words)} words, unk among "
                f"them, of {channels} channels each"
            )
        if not tokens:
            raise MotionGPT3Error(f"{folder} has no texts of HumanML3D; copy its folder texts there")
        return cls(vectors, words, vip, tokens)

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Captions -> words (B, n, D), classes (B, n, 15) one-hot, lengths (B,), marks of start and end included."""
        rows = []
        for text in texts:
            guessed = ((word, self.usual.get(word, "OTHER")) for word in lemma_tokens(text))
            tokens = self.tokens.get(_plain(text)) or list(guessed)
            rows.append([("sos", "OTHER"), *tokens[:MAX_CAPTION_WORDS], ("eos", "OTHER")])
        lengths = torch.tensor([len(row) for row in rows])
        words = torch.zeros(len(rows), int(lengths.max()), self.vectors.shape[1])
        classes = torch.zeros(len(rows), int(lengths.max()), len(CLASSES))
        for at, row in enumerate(rows):
            for n, (word, part) in enumerate(row):
                known = word in self.places
                words[at, n] = self.vectors[self.places[word if known else "unk"]]
                name = self.vip.get(word, part if part in CLASSES else "OTHER") if known else "OTHER"
                classes[at, n, CLASSES.index(name)] = 1
        return words, classes, lengths


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".!? ")


def _tokens(files: Iterable[Path]) -> Iterable[tuple[str, list[Token]]]:
    """(caption, tokens) of lines `caption#word/POS word/POS#from#to`."""
    for file in files:
        for line in _bytes(file).decode("utf-8", "replace").splitlines():
            caption, _, rest = line.partition("#")
            pairs = [one.rpartition("/") for one in rest.partition("#")[0].split()]
            tokens = [(word, part) for word, _, part in pairs if word]
            if tokens:
                yield _plain(caption), tokens


def _words(folder: Path) -> list[str]:
    """The vocabulary in order."""
    text = folder / "our_vab_words.txt"
    if text.is_file():
        return _bytes(text).decode("utf-8").split("\n")[:-1]
    data = _bytes(folder / "our_vab_words.pkl")
    return [arg for code, arg, _ in pickletools.genops(data) if "UNICODE" in code.name and isinstance(arg, str)]


def _bytes(file: Path) -> bytes:
    with file.open("rb") as stream:
        data = stream.read(MAX_WORD_BYTES + 1)
    if len(data) > MAX_WORD_BYTES:
        raise ValueError(f"{file.name} is far too large")
    return data


PADDED_FRAMES = 200
"""Frames that clips are padded to where the evaluator stops at their end: its convolutions look just past it."""


class GuoTextMotion:
    """Guo et al.'s networks as a text-motion evaluator.

    Features are computed from joints, of recorded and of generated motions alike.

    Args:
        network: in eval mode.
        sha256: of its weights.
        packed: stop at each clip's end. Otherwise motions that are embedded together are padded to the longest of them
            and the padding is read too, as the evaluations of MotionGPT and MotionGPT3 do.
        words: what captions are read with; None: they cannot be.
    """

    def __init__(self, network: GuoEvaluator, sha256: str, packed: bool, words: WordVectors | None = None) -> None:
        self.network, self.sha256, self.packed, self.words = network, sha256, packed, words
        self.channels = network.config.channels
        self.name = f"Guo et al., {'packed' if packed else 'unpacked'}"

    @torch.inference_mode()
    def embed_motions(self, motions: Sequence[Motion]) -> Tensor:
        """Motions at 20 fps, of 4 to 200 frames -> (N, D) float32; one batch."""
        lengths = torch.tensor([len(motion) for motion in motions])
        device = self.network.feature_mean.device
        longest = max(PADDED_FRAMES, int(lengths.max())) if self.packed else int(lengths.max())
        padded = torch.zeros(len(motions), longest, self.network.config.features, device=device)
        for row, motion in zip(padded, motions, strict=True):
            features = joints_to_features(torch.from_numpy(motion.joints.copy())).to(device)
            row[: len(motion)] = self.network.normalise(features)
        return self.network.embed_motion(padded, lengths, self.packed).float().cpu()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Captions -> (N, D) float32; NaN without word vectors."""
        if self.words is None:
            return torch.full((len(texts), self.channels), torch.nan)
        device = self.network.feature_mean.device
        words, classes, lengths = (one.to(device) for one in self.words(texts))
        return self.network.embed_text(words, classes, lengths).float().cpu()
