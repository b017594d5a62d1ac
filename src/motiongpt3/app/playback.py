"""The clock of a motion that is played."""

from __future__ import annotations


class Playback:
    """Where a motion is being watched; it begins again at its end.

    Attributes:
        time: seconds from the start.
        length: seconds until the last frame; 0 with nothing to play.
        playing: whether time goes on.
        speed: seconds of the motion per second; 1 is as it was.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.length = 0.0
        self.playing = False
        self.speed = 1.0

    def start(self, length: float) -> None:
        """Play something of this length in seconds from its start."""
        self.time, self.length, self.playing = 0.0, max(length, 0.0), True

    def seek(self, time: float) -> None:
        """Go to a time, or the end that is nearer."""
        self.time = min(max(time, 0.0), self.length)

    def toggle(self) -> None:
        """Play or pause."""
        self.playing = not self.playing

    def advance(self, seconds: float) -> None:
        """Let so many seconds of the watcher pass."""
        if self.playing and self.length > 0:
            self.time = (self.time + seconds * self.speed) % self.length
