"""Tiny data and settings to train with."""

from training_fixtures import killed, packed, quiet, run, sizes, stage1, survives_a_kill, vae_folder

__all__ = ["killed", "packed", "quiet", "run", "sizes", "stage1", "survives_a_kill", "vae_folder"]
