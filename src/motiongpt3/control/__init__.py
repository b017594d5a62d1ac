"""What a user holds fixed in a motion, and how it is met. Public as `motiongpt3.constraints`."""

from motiongpt3.control.constraints import AnyConstraint, Contact, EffectorTarget, Keyframe, RootPath
from motiongpt3.control.files import Scene, load, load_scene, save, save_scene
from motiongpt3.control.timeline import Track, load_timeline, load_timelines, save_timelines

__all__ = [
    "AnyConstraint",
    "Contact",
    "EffectorTarget",
    "Keyframe",
    "RootPath",
    "Scene",
    "Track",
    "load",
    "load_scene",
    "load_timeline",
    "load_timelines",
    "save",
    "save_scene",
    "save_timelines",
]
