"""What the service takes and gives, as JSON. Unknown fields, wrong types, NaN and numbers out of range are refused."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from docstring_parser import parse_from_object
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    GetPydanticSchema,
    Tag,
    create_model,
)
from pydantic_core import core_schema

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.request import DrawOptions
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.postprocess import MAX_SMOOTH_SECONDS, UNITS, Report
from motiongpt3.motion.quality import Quality
from motiongpt3.service.motion_files import MAX_FPS, MAX_PROMPT, MAX_SECONDS, MAX_UPLOAD, check_length, from_bytes
from motiongpt3.service.reading import TooLarge

MAX_MOTIONS = 64
"""Motions of one request."""
MAX_FRAMES = 12_000
"""Frames of a motion given as joints: ten minutes at 20 frames per second."""

Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT, examples=["a person walks forward"])]
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, examples=[4.0])]
Seed = Annotated[int, Field(ge=0, lt=2**53, description="The same seed gives the same motion.")]
Point = Annotated[list[float], Field(min_length=3, max_length=3), FailFast()]
Frame = Annotated[list[Point], Field(min_length=22, max_length=22), FailFast()]
Frames = Annotated[list[Frame], Field(min_length=1, max_length=MAX_FRAMES), FailFast()]  # not an error per number


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Joints(_Strict):
    """A motion as positions; what the service gives can be given back as it is."""

    model_config = ConfigDict(extra="ignore")

    joints: Frames
    """Frames of 22 joints (HumanML3D's order) of x, y, z: metres, y up."""
    fps: Annotated[float, Field(gt=0, le=1000)] = 20.0
    """Frames per second."""


class File(_Strict):
    """A motion file."""

    format: Literal["bvh", "glb", "npz", "npy"]
    """What kind of file it is."""
    data: Annotated[str, Field(min_length=4, max_length=MAX_UPLOAD // 3 * 4 + 4)]
    """Its bytes in base64; at most 20 MB before the encoding."""


def _kind(value: Any) -> str:
    return "file" if isinstance(value, File) or (isinstance(value, dict) and "data" in value) else "joints"


def _number(value: Any) -> str:
    return "list" if isinstance(value, list) else "sentence"


Prompts = Annotated[list[Prompt], Field(min_length=1, max_length=MAX_MOTIONS)]
PromptOrPrompts = Annotated[
    Annotated[Prompt, Tag("sentence")] | Annotated[Prompts, Tag("list")], Discriminator(_number)
]
_Given = Annotated[Annotated[Joints, Tag("joints")] | Annotated[File, Tag("file")], Discriminator(_kind)]


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


def _read(value: Any, check: Callable[[Any], Joints | File]) -> Motion:
    return value if isinstance(value, Motion) else read_motion(check(value))


MotionIn = Annotated[
    Motion, GetPydanticSchema(lambda _, handler: core_schema.no_info_wrap_validator_function(_read, handler(_Given)))
]
"""A motion, given as `Joints` or as a `File`."""


class Finish(_Strict):
    """How motions are made ready for use. Done in this order: smooth, fps, loop, fix_feet, in_place."""

    smooth: Annotated[float, Field(gt=0, le=MAX_SMOOTH_SECONDS)] | None = None
    """Average joints over so many seconds; 0.2 takes away a tremor."""
    fps: Annotated[float, Field(ge=1, le=MAX_FPS)] | None = None
    """Frames per second of the answer, along a smooth curve; null: as drawn or given."""
    loop: bool = False
    """Cut out a seamless cycle: the last pose is the first. Needs a motion of 1 s or more."""
    fix_feet: bool = False
    """Hold standing feet in their places on the floor, which is at height 0."""
    in_place: bool = False
    """Stay on the spot: take away the way, keep the steps."""


class _Drawn(_Strict):
    """What all requests have that motions are drawn for."""

    seed: Seed = 0
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None
    """How strictly to follow the words; null: the model's own setting."""
    steps: Annotated[int, Field(ge=1, le=100)] | None = None
    """Sampling steps; null: the model's own setting."""
    finish: Finish | None = None
    """What is done to the motions afterwards; null: nothing. It is done to given frames, too."""

    @property
    def draw_options(self) -> DrawOptions:
        """What `Engine` takes."""
        return DrawOptions(self.seed, self.guidance, self.steps)


class GenerateRequest(_Drawn):
    """Motions from sentences."""

    prompt: PromptOrPrompts
    """What the person does, in an English sentence; or a list of such."""
    seconds: Seconds | None = None
    """Duration, up to the model's `max_seconds`; null: the model decides."""
    samples: Annotated[int, Field(ge=1, le=MAX_MOTIONS)] = 1
    """Motions per prompt; sample k uses seed + k. At most 64 motions in all."""


class CaptionRequest(_Strict):
    """Sentences about a motion."""

    motion: MotionIn
    samples: Annotated[int, Field(ge=1, le=16)] = 1
    """Captions to give."""
    beams: Annotated[int, Field(ge=1, le=16)] = 1
    """Width of the beam search; 1 is greedy for one sample, and draws for more."""
    candidates: Annotated[int, Field(ge=1, le=16)] | None = None
    """Captions to draw, of which the one that fits the motion best is kept; needs 1 sample and 1 beam. 1 takes the
    likeliest words; null: the model's own setting."""
    seed: Seed = 0


class PredictRequest(_Drawn):
    """How a motion goes on."""

    motion: MotionIn
    seconds: Seconds
    """How much to add."""
    prompt: Prompt | None = None


class InbetweenRequest(_Drawn):
    """A motion that leads from one to another."""

    start: MotionIn
    end: MotionIn
    seconds: Seconds
    """Length of the gap."""
    prompt: Prompt | None = None


class Part(_Strict):
    """One action of a composition."""

    prompt: Prompt
    seconds: Seconds | None = None
    """Duration; null: the model decides."""


class ComposeRequest(_Drawn):
    """One action after the other, as one motion."""

    parts: Annotated[list[Part], Field(min_length=1, max_length=16)]


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Change(_Answer):
    """A measure of a motion."""

    before: float
    """As drawn."""
    after: float
    """As finished."""


_MEASURES = {
    field.arg_name: field.description or "" for kind in (Quality, Report) for field in parse_from_object(kind).params
}
"""What each measure is, as the classes of `motion` document it."""


def _described(name: str) -> str:
    """A measure with its unit: "mm: how much …"; shares say themselves what they are of."""
    unit, text = UNITS[name], _MEASURES[name]
    return text if unit == "of frames" else f"{unit}: {text[0].lower()}{text[1:]}"


Changes: Any = create_model(
    "Changes",
    __base__=_Answer,
    __doc__="Measures of a motion before and after it was finished, with the floor at height 0.",
    **{name: (Change, Field(description=_described(name))) for name in UNITS},  # type: ignore[call-overload]
)


class MotionOut(_Answer):
    """A motion."""

    caption: str | None
    """What happens, as far as it is known."""
    seed: int
    frames: int
    fps: float
    seconds: float
    joints: list[Frame]
    """Frames of 22 joints of x, y, z: metres to six decimals, y up."""
    finish: Changes | None
    """What finishing changed; null: it was not asked for."""


class Motions(_Answer):
    """Motions, prompt by prompt and sample by sample."""

    motions: list[MotionOut]


class Captions(_Answer):
    """Sentences about the motion."""

    captions: list[str]


class Status(_Answer):
    """Whether the service is well."""

    status: Literal["ok", "ready"]


class ModelInfo(_Answer):
    """What is served."""

    name: str
    tasks: list[str]
    max_seconds: float
    """Longest motion that it generates."""
    fps: float
    guidance: float
    """Used where a request gives none."""
    steps: int
    """Used where a request gives none."""
    max_prompt_characters: int = MAX_PROMPT
    max_motions_per_request: int = MAX_MOTIONS
    max_upload_bytes: int = MAX_UPLOAD


class Error(_Answer):
    """Why a request was not done, in one line."""

    detail: str
