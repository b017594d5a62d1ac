"""motiongpt3: human motion as a second language."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motiongpt3 import control as constraints
    from motiongpt3.errors import MotionGPT3Error
    from motiongpt3.models.motiongpt3 import MotionGPT3
    from motiongpt3.models.vae import MotionVAE
    from motiongpt3.motion.motion import Motion
    from motiongpt3.motion.skeleton import HUMANML3D, Skeleton

__version__ = "0.1.0"
__all__ = ["HUMANML3D", "Motion", "MotionGPT3", "MotionGPT3Error", "MotionVAE", "Skeleton", "constraints"]

_HOMES = {
    "HUMANML3D": "motiongpt3.motion.skeleton",
    "Motion": "motiongpt3.motion.motion",
    "MotionGPT3": "motiongpt3.models.motiongpt3",
    "MotionGPT3Error": "motiongpt3.errors",
    "MotionVAE": "motiongpt3.models.vae",
    "Skeleton": "motiongpt3.motion.skeleton",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use: torch and transformers take seconds to import."""
    if name == "constraints":
        return import_module("motiongpt3.control")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "constraints"])
