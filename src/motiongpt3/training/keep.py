"""What a model could do before a stage, kept: text to motion of stage 1 as a teacher of its successor.

Stage 1 sees many more clips than the stages after it. Its hidden states say what each caption should lead to without
the noise of a diffusion loss, so a few captions a step hold the queries where they were (Li and Hoiem, Learning without
Forgetting, arXiv 1606.09282).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from motiongpt3.checkpoints.folder import load_weights
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.kv_cache import KVCache
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.pretrained import backbone_names, read_settings
from motiongpt3.models.stream import Tokens


class KeptTextToMotion:
    """The motion side of a trained model; not a module, so that nothing trains it or saves it again.

    Args:
        model: whose language model it shares.
        folder: the trained model.

    Raises:
        MotionGPT3Error: the model's language model is another one, or has been updated.
    """

    def __init__(self, model: MotionGPT3, folder: Path) -> None:
        settings, _, _ = read_settings(folder)
        ranks = model.config.text_rank, settings.text_rank
        if ranks != (None, None) or settings.backbone != model.config.backbone:
            raise MotionGPT3Error("keep needs the frozen language model that the kept model was trained on")
        self.teacher = MotionGPT3(settings, model.backbone)
        load_weights(self.teacher, folder, absent=backbone_names(model.backbone))
        for part in (self.teacher.motion, self.teacher.embed_length, self.teacher.queries):
            part.requires_grad_(False)
        self.teacher.to(model.queries.device).motion.freeze()

    @torch.no_grad()
    def hidden(self, cache: KVCache, start: Tensor, frames: Tensor) -> Tensor:
        """Hidden states of the queries (B, K + 1, motion width) behind texts; the cache is only read.

        Args:
            cache: the texts.
            start: (B,) place of the first query.
            frames: (B,) durations.
        """
        queries = Tokens.of(self.teacher.query_tokens(frames), start=start)
        _, hidden = self.teacher.transformer(None, queries, cache, extend=False)
        assert hidden is not None
        return hidden
