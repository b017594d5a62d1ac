"""Does the text-motion evaluator recognise recorded motions? Prints the table of docs/evaluator.md.

python benchmarks/evaluator.py --data data/mocap [--evaluator mocap] [--split test] [--repeats 20]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import torch

from motiongpt3.data.clips import PackedClips
from motiongpt3.evaluation.recognition import recognition
from motiongpt3.evaluation.tmr import load_evaluator
from motiongpt3.motion.features import mirror_features


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/mocap")
    parser.add_argument("--evaluator", default="mocap")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()

    evaluator = load_evaluator(options.evaluator)
    pack = PackedClips.open(options.data)
    kept = [number for number in pack.split(options.split) if pack.clips[number].captions]
    clips = [pack.clips[number] for number in kept]
    features = [torch.from_numpy(pack.clip_features(number).copy()) for number in kept]
    with torch.no_grad():
        begun = time.perf_counter()
        motion = evaluator.network.embed_clips(features)
        seconds = time.perf_counter() - begun
        mirrored = evaluator.network.embed_clips([mirror_features(one) for one in features])
    begun = time.perf_counter()
    texts = sorted({text for clip in clips for text in clip.captions})
    evaluator.embed_texts(texts)
    print(f"{options.split}: {len(clips)} motions in {seconds:.2f} s, {len(texts)} captions in", end=" ")
    print(f"{time.perf_counter() - begun:.1f} s; weights {evaluator.sha256[:12]}")
    for name, group in (("label", 32), ("label, small groups", 8)):
        found = recognition(clips, motion, mirrored, evaluator.embed_texts, options.repeats, group)
        print(f"one clip per {name}:")
        for measure, values in found.items():
            spread = 1.96 * float(values.std()) / len(values) ** 0.5
            print(f"  {measure}: {float(values.mean()):.3f} ± {spread:.3f}")
    ranks = nearest(motion, [clip.label for clip in clips])
    print(f"the nearest other clip has the same label: {ranks:.3f}")


def nearest(motion: torch.Tensor, labels: list[str]) -> float:
    """Share of clips of labels with several whose nearest other clip has their label."""
    similarity = (motion @ motion.T).fill_diagonal_(-2)
    several = {label for label, count in Counter(labels).items() if count > 1}
    pairs = zip(labels, similarity.argmax(1).tolist(), strict=True)
    return sum(labels[other] == own for own, other in pairs if own in several) / sum(
        label in several for label in labels
    )


if __name__ == "__main__":
    main()
