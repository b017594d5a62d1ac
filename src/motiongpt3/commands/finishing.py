"""The options that finish a motion, for every command that writes one, and what they report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat

from motiongpt3.commands.options import Parser
from motiongpt3.commands.tables import table
from motiongpt3.motion.motion import Motion

if TYPE_CHECKING:
    from motiongpt3.motion.changes import Changes

OPTIONS = ("fix_feet", "in_place", "loop", "fps", "smooth")


def add_finish_options(parser: Parser) -> None:
    """--fix-feet, --in-place, --loop, --fps and --smooth."""
    parser.add_argument("--fix-feet", action="store_true", help="hold standing feet in their places on the floor")
    parser.add_argument("--in-place", action="store_true", help="stay on the spot: take away the way, keep the steps")
    parser.add_argument("--loop", action="store_true", help="cut out a seamless cycle; its last pose is its first")
    parser.add_argument("--fps", type=PositiveFloat, metavar="F", help="frames per second of what is written")
    parser.add_argument(
        "--smooth", type=PositiveFloat, metavar="S", help="average joints over S seconds; 0.2 takes away a tremor"
    )


def asks_for_finish(options: Namespace) -> bool:
    """Whether any of these options is given; one that is out of range is refused, before anything is drawn.

    Raises:
        MotionGPT3Error: a number that `motion.finish.finish` does not take.
    """
    if not any(options[name] for name in OPTIONS):
        return False
    from motiongpt3.motion.finish import check_numbers

    check_numbers(options.fps, options.smooth)
    return True


def finished(motion: Motion, options: Namespace) -> Motion:
    """The motion finished as the options say; itself if they say nothing."""
    if not asks_for_finish(options):
        return motion
    from motiongpt3.motion.finish import finish

    return finish(motion, **{name: options[name] for name in OPTIONS})


def changes(before: Sequence[Motion], after: Sequence[Motion], options: Namespace) -> Changes | None:
    """The mean of each measure before and after; None if no option was given."""
    if not asks_for_finish(options):
        return None
    from motiongpt3.motion.changes import changes

    return changes(before, after)


def changes_table(found: Changes) -> str:
    """`changes` as aligned text."""
    from motiongpt3.motion.changes import UNITS

    lines = [[f"{name} ({UNITS[name]})", *(f"{side:.3f}" for side in both.values())] for name, both in found.items()]
    return table(["", "before", "after"], lines)
