"""Motions in and out of the service: uploads read with care, answers as JSON."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence

import numpy as np

from motiongpt3.app.finishing import Finished
from motiongpt3.app.limits import MAX_UPLOAD
from motiongpt3.app.motion_files import check_length, from_bytes
from motiongpt3.app.schemas import File, Joints
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion

JSON = "application/json"
FILES = {"application/x-npz": "npz", "application/x-bvh": "bvh", "model/gltf-binary": "glb"}
"""Media types of the files that a client can ask for with Accept, and their suffixes."""


class NotAcceptable(Exception):
    """The client accepts nothing that the service can give."""


class TooLarge(Exception):
    """An upload is larger than MAX_UPLOAD."""


def media_type(accept: str | None) -> str:
    """JSON or the type of a file: what an Accept header likes best, JSON where it has no preference.

    Raises:
        NotAcceptable: nothing of it is on offer.
    """
    offers = (JSON, *FILES)
    wishes = _wishes(accept or "*/*")
    for kind in sorted(wishes, key=lambda kind: -wishes[kind]):
        for offer in offers:
            if kind in (offer, "*/*", offer.partition("/")[0] + "/*"):
                return offer
    raise NotAcceptable(f"this answer comes as {', '.join(offers)}")


def _wishes(accept: str) -> dict[str, float]:
    """Media ranges of an Accept header and their qualities, in its order."""
    wishes = {}
    for wish in accept.split(",")[:50]:
        kind, *options = (part.strip().lower() for part in wish.split(";"))
        text = next((option[2:] for option in options if option.startswith("q=")), "1")
        wishes[kind] = float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text) else 0.0
    return {kind: quality for kind, quality in wishes.items() if quality > 0}


def read_motion(given: Joints | File) -> Motion:
    """The motion that a client gave.

    Raises:
        TooLarge: the file has more than MAX_UPLOAD bytes.
        MotionGPT3Error: it is no base64, no such file, or longer than MAX_SECONDS.
    """
    if isinstance(given, Joints):
        with np.errstate(over="ignore"):  # such numbers are refused
            motion = Motion(given.joints, given.fps)
        check_length(motion)
        return motion
    try:
        data = base64.b64decode(given.data, validate=True)
    except (binascii.Error, ValueError):
        raise MotionGPT3Error("data is not base64") from None
    if len(data) > MAX_UPLOAD:
        raise TooLarge(f"a motion file has at most {MAX_UPLOAD // 10**6} MB")
    return from_bytes(data, given.format)


def as_json(made: Sequence[Finished], seeds: Sequence[int]) -> bytes:
    """The `Motions` answer: positions in metres to six decimals, and what finishing changed."""
    return json.dumps(
        {
            "motions": [
                {
                    "caption": motion.caption,
                    "seed": seed,
                    "frames": len(motion),
                    "fps": motion.fps,
                    "seconds": motion.seconds,
                    "joints": motion.joints.astype(np.float64).round(6).tolist(),
                    "finish": changes,
                }
                for (motion, changes), seed in zip(made, seeds, strict=True)
            ]
        },
        separators=(",", ":"),
        allow_nan=False,
    ).encode()
