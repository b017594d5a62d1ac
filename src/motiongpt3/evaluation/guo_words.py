"""Captions as Guo et al.'s evaluator reads them: lemmas with word vectors and word classes, from a user's own files."""

from __future__ import annotations

import json
import pickletools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.language import lemma_tokens

CLASSES = (
    "VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV",
    "Loc_VIP", "Body_VIP", "Obj_VIP", "Act_VIP", "Desc_VIP", "OTHER",
)  # fmt: skip
"""The networks' inputs in order: parts of speech, then lists of words for places, bodies, objects, acts, manners."""
MOST_WORDS = 20
"""Words of a caption that are read, the marks of start and end not counted."""
MOST_BYTES = 1 << 28

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
            vectors = np.load(folder / "our_vab_data.npy", allow_pickle=False)
            words = _words(folder)
            lists = json.loads(_bytes(folder / "classes.json"))
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
            tokens = self.tokens.get(_plain(text)) or [
                (word, self.usual.get(word, "OTHER")) for word in lemma_tokens(text)
            ]
            rows.append([("sos", "OTHER"), *tokens[:MOST_WORDS], ("eos", "OTHER")])
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

    def _guessed(self, text: str) -> list[Token]:
        return [(word, self.usual.get(word, "OTHER")) for word in lemma_tokens(text)]


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
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{file.name} is far too large")
    return data
