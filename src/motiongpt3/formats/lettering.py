"""Words in pictures: cleaning, breaking into lines, the font and the legend of left and right."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache
from math import ceil

from PIL import ImageDraw, ImageFont

from motiongpt3.formats.figure import LEFT, RIGHT

Colour = tuple[int, int, int]

INK: Colour = (38, 44, 56)
FAINT: Colour = (128, 136, 150)


def clean_text(text: str, limit: int = 2000) -> str:
    """One line of at most `limit` characters without control characters; surrogates become question marks."""
    text = text[: 4 * limit].encode("utf-8", "replace").decode("utf-8")
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in text)
    return " ".join(text.split())[:limit]


def wrap(text: str, size: int, room: int, rows: int) -> list[str]:
    """Break a text into at most `rows` lines no wider than `room` pixels; what does not fit ends in an ellipsis."""
    measure = font(size).getlength
    lines: list[str] = []
    line = ""
    for word in text.split():
        while word:
            joined = f"{line} {word}" if line else word
            if measure(joined) <= room:
                line, word = joined, ""
            elif line:
                lines.append(line)
                line = ""
            else:
                fits = max(1, bisect_right(range(1, len(word) + 1), room, key=lambda n: ceil(measure(word[:n]))))
                lines.append(word[:fits])
                word = word[fits:]
        if len(lines) > rows:
            break
    lines += [line] if line else []
    if len(lines) > rows:
        last = lines[rows - 1]
        while last and measure(last.rstrip() + "...") > room:
            last = last[:-1]
        lines = [*lines[: rows - 1], last.rstrip() + "..."]
    return lines


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at a size in pixels."""
    return ImageFont.load_default(max(8, size))


def legend(pen: ImageDraw.ImageDraw, x: int, y: int, size: int) -> None:
    """The colours of left and right, at pixel x, y."""
    for word, colour in (("left", LEFT), ("right", RIGHT)):
        pen.rounded_rectangle([x, y + 0.35 * size, x + 0.7 * size, y + 1.05 * size], 0.15 * size, colour)
        pen.text((x + size, y), word, fill=FAINT, font=font(size))
        x += round(font(size).getlength(word)) + 2 * size
