"""The one error a user can cause. Its message is a single line: what was wrong and what to do."""

from __future__ import annotations


class MotionGPT3Error(ValueError):
    """A bad input. The command line prints the message and exits with 2; the Python API raises it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(message.splitlines()))  # one line, whatever the names in a file hold


class NotFiniteError(MotionGPT3Error):
    """Joints with NaN, infinite or absurd values: a damaged file, or a model that broke down."""
