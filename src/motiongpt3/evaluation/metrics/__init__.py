"""The metrics of the evaluation, as `torchmetrics.Metric`s that agree however the samples are dealt to processes.

Every `update` takes the samples' indices in the whole population, every `compute` returns a dictionary of scalars with
the number of `samples` and of those `excluded`. They need the extra `motiongpt3[evaluate]`.
"""

from motiongpt3.evaluation.metrics.distribution import FID, Diversity, MultiModality
from motiongpt3.evaluation.metrics.language import CaptionScores, lemma_tokens, lower_tokens, raw_tokens
from motiongpt3.evaluation.metrics.reconstruction import PredictionErrors, ReconstructionErrors, span
from motiongpt3.evaluation.metrics.retrieval import RPrecision
from motiongpt3.evaluation.metrics.samples import SampleMetric

__all__ = [
    "FID",
    "CaptionScores",
    "Diversity",
    "MultiModality",
    "PredictionErrors",
    "RPrecision",
    "ReconstructionErrors",
    "SampleMetric",
    "lemma_tokens",
    "lower_tokens",
    "raw_tokens",
    "span",
]
