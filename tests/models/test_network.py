"""Motions as latents: of any rate and place, one by one or together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.network import encode_motions, readable
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D


def test_motions_are_read_alike_together_and_alone(reader: MotionGPT3, motions: list[Motion]) -> None:
    together = encode_motions(reader.vae, motions, 20)
    assert together.frames.tolist() == [len(motion) for motion in motions]
    assert together.latents.shape == (6, 2, 8)
    for number, motion in enumerate(motions):
        alone = encode_motions(reader.vae, [motion], 20)
        torch.testing.assert_close(alone.latents[0], together.latents[number], atol=1e-4, rtol=0)
    assert (together.latents[0] - together.latents[1]).abs().max() > 1e-3


def test_where_a_motion_lies_and_faces_is_not_read(reader: MotionGPT3, motions: list[Motion]) -> None:
    turned = motions[2].joints @ np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32) + np.float32([3, 0, -5])
    there = encode_motions(reader.vae, [motions[2].replace(joints=turned)], 20)
    here = encode_motions(reader.vae, motions[2:3], 20)
    torch.testing.assert_close(there.latents, here.latents, atol=1e-3, rtol=0)


def test_noise_draws_around_the_mean(reader: MotionGPT3, motions: list[Motion]) -> None:
    mean = encode_motions(reader.vae, motions[:2], 20).latents
    noise = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(0))
    above, below = (encode_motions(reader.vae, motions[:2], 20, sign * noise).latents for sign in (1, -1))
    torch.testing.assert_close((above + below) / 2, mean, atol=1e-5, rtol=1e-5)
    assert ((above - mean).sign() == noise.sign()).all()


def test_no_motion_is_no_latent(reader: MotionGPT3) -> None:
    nothing = encode_motions(reader.vae, [], 20)
    assert nothing.latents.shape == (0, 2, 8)
    assert nothing.frames.shape == (0,)


@pytest.mark.parametrize("frames", [19, 101])
def test_lengths_that_the_vae_does_not_read(reader: MotionGPT3, motions: list[Motion], frames: int) -> None:
    motion = motions[0].replace(joints=motions[0].joints[np.arange(frames) % 24])
    with pytest.raises(MotionGPT3Error, match=r"reads motions of 1 to 5 seconds, not of \d[.\d]*: cut or extend it$"):
        encode_motions(reader.vae, [motions[1], motion], 20)


@pytest.mark.parametrize(("frames", "fps", "read"), [(30, 30, 20), (10, 10, 0), (11, 10, 21), (120, 120, 20)])
def test_what_is_long_enough_is_told_at_the_models_rate(
    reader: MotionGPT3, motions: list[Motion], frames: int, fps: float, read: int
) -> None:
    motion = Motion(motions[0].joints[np.arange(frames) % 24], fps)
    if read:
        assert len(readable(motion, reader.config, "this")) == read
        assert encode_motions(reader.vae, [readable(motion, reader.config, "this")], 20).frames.tolist() == [read]
    else:  # a second at 10 frames a second is nine tenths of one from its first to its last frame
        with pytest.raises(MotionGPT3Error, match=r"^this has 0\.95 s; the model reads 1 s or more$"):
            readable(motion, reader.config, "this")


def test_what_is_no_motion_of_ours(reader: MotionGPT3, motions: list[Motion]) -> None:
    other = replace(HUMANML3D, names=tuple(f"x{name}" for name in HUMANML3D.names))
    for given, message in ((3, "must be a Motion, not int"), (motions[0].replace(skeleton=other), "another skeleton")):
        with pytest.raises(MotionGPT3Error, match=f"^this .*{message}"):
            readable(given, reader.config, "this")
