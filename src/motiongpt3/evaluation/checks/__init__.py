"""Checks of what a model does: prompts, captions, instructions."""
