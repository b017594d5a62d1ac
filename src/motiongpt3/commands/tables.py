"""Numbers as aligned text."""

from __future__ import annotations

from collections.abc import Sequence

METRICS = {
    "r_precision_1": ("R-precision 1 (%)", 100.0, 1),
    "r_precision_2": ("R-precision 2 (%)", 100.0, 1),
    "r_precision_3": ("R-precision 3 (%)", 100.0, 1),
    "mm_dist": ("MM-Dist", 1.0, 3),
    "fid": ("FID", 1.0, 3),
    "fid_halves": ("FID, half against other half", 1.0, 3),
    "diversity": ("diversity", 1.0, 3),
    "multimodality": ("multimodality", 1.0, 3),
    "skate_ratio": ("frames with a skating foot (%)", 100.0, 2),
    "skate_speed": ("speed of toes near the floor (cm/s)", 1.0, 2),
    "penetration_mean": ("depth under the floor (mm)", 1.0, 2),
    "floating": ("floating frames (%)", 100.0, 2),
    "jitter": ("jitter (m/s³)", 1.0, 1),
    "bleu_1": ("BLEU-1, words", 100.0, 1),
    "bleu_4": ("BLEU-4, words", 100.0, 1),
    "rouge_l": ("ROUGE-L, words", 100.0, 1),
    "cider": ("CIDEr, words (0 to 10)", 1.0, 3),
    "lemma_bleu_1": ("BLEU-1, lemmas", 100.0, 1),
    "lemma_bleu_4": ("BLEU-4, lemmas", 100.0, 1),
    "lemma_rouge_l": ("ROUGE-L, lemmas", 100.0, 1),
    "lemma_cider": ("CIDEr, lemmas (0 to 10)", 1.0, 3),
    "bert_score": ("BERTScore F1, rescaled", 100.0, 1),
    "bert_baseline": ("BERTScore F1 of unrelated captions", 100.0, 1),
    "action": ("action word right (%)", 100.0, 1),
    "left_right": ("left or right right (%)", 100.0, 1),
    "forward_backward": ("forward or backward right (%)", 100.0, 1),
    "distinct": ("distinct captions (%)", 100.0, 1),
    "ade": ("ADE (m)", 1.0, 3),
    "fde": ("FDE (m)", 1.0, 3),
    "ade_best": ("ADE, best of the predictions (m)", 1.0, 3),
    "fde_best": ("FDE, best of the predictions (m)", 1.0, 3),
    "apd": ("APD (m)", 1.0, 3),
    "apd_norm": ("APD as DLow has it (m)", 1.0, 2),
    "seam_jerk": ("jerk at the seams (m/s³)", 1.0, 0),
}
"""Metrics of `evaluation.tasks`: words, what they are multiplied with and digits, for tables."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in [head, *rows]
    )
