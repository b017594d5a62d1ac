"""Labels of clips: a few words that say what happens, such as "walk forward energetically".

A label without its style is an action. Here stand which actions are alike, which of them people ask for together, how
often augmentation draws them, and plain predicates that are true of every clip of an action.
"""

from __future__ import annotations

import re

LOCOMOTION = re.compile(
    r"(walk|run)( forward| backward| diagonally (left|right)|, turn (left|right)| and turn (left|right)| turning "
    r"(left|right)| veering (left|right)| to the (left|right)|s? with turns)"
)
"""Base actions of walking and running, turns and curves included."""
GESTURE = re.compile(r"(wave|raise) ((left|right) hand|both hands)")
"""Base actions of waving and of raising hands."""


def base_action(short: str) -> str:
    """The action without its style: "run forward energetically" -> "run forward"; walking turns are one action."""
    words = re.sub(r"\s+[a-z]+ly$", "", short.strip().lower())
    return re.sub(r"^walk(, turn| and turn| turning) (left|right)$", r"walk and turn \2", words)


_TURNS = ("walk and turn left", "walk and turn right")
WAVES = ("wave right hand", "wave left hand", "wave both hands")
RAISES = ("raise right hand", "raise left hand", "raise both hands")
LOWER_SHARE = {"walk forward": 8.0, "run forward": 4.0, "walk and turn left": 2.0, "walk and turn right": 2.0}
UPPER_SHARE: dict[str, float] = dict.fromkeys(WAVES, 3.0) | dict.fromkeys(RAISES, 2.0)
"""How often an action is drawn for the legs and for the arms of a layered motion; others 0.5. Chosen by hand: what
people ask for most comes most often."""


def asked_pairs() -> list[tuple[str, str]]:
    """What people ask for in two parts; a pair listed twice is drawn twice as often."""
    walk, run, gestures = "walk forward", "run forward", (*WAVES, *RAISES)
    pairs = [(walk, gesture) for gesture in gestures] * 2 + [(gesture, walk) for gesture in gestures] * 2
    pairs += [(walk, turn) for turn in _TURNS] * 3 + [(turn, gesture) for turn in _TURNS for gesture in WAVES]
    pairs += [(walk, "stop"), (run, "stop"), (run, walk), (walk, run), (walk, "sit down"), (run, "sit down")] * 3
    pairs += [("squat once", "jump once"), ("squat once", "jump forward"), (walk, "jump forward")] * 2
    pairs += [(walk, "squat once"), ("squat once", walk), ("jump forward", walk), (run, "jump once")] * 2
    pairs += [(walk, "put object down"), (walk, "left front kick"), (walk, "bow"), (walk, "lie down"), (walk, walk)]
    pairs += [(walk, "walk backward"), ("walk backward", walk), ("bow", "wave right hand"), ("left front kick", walk)]
    pairs += [(run, gesture) for gesture in gestures] + [(gesture, run) for gesture in gestures]
    pairs += [(a, b) for a in gestures for b in gestures if a != b] + [(gesture, "sit down") for gesture in gestures]
    return pairs + [(wave, jump) for wave in WAVES for jump in ("squat once", "jump once")]


PHRASES: dict[str, tuple[str, ...]] = {
    "walk forward": ("walks forward", "walks ahead", "walks", "walks straight ahead", "walks along"),
    "walk backward": ("walks backward", "walks backwards", "steps backward"),
    "walk and turn left": ("turns left while walking", "walks around a corner to the left", "walks in a left turn"),
    "walk and turn right": ("turns right while walking", "walks around a corner to the right", "walks in a right turn"),
    "run forward": ("runs forward", "runs", "runs ahead", "jogs forward", "jogs"),
    "stop": ("stops", "comes to a stop", "stands still", "halts", "stops moving"),
    "sit down": ("sits down", "takes a seat", "sits", "sits down on a chair"),
    "squat once": ("squats", "does a squat", "squats down"),
    "jump once": ("jumps", "does a jump"),
    "jump forward": ("jumps forward", "jumps", "leaps forward"),
    "bow": ("bows", "bows forward", "takes a bow"),
    "lie down": ("lies down", "lies down on the floor"),
    "left front kick": ("kicks with the left leg", "does a kick with the left leg", "kicks with the left foot"),
    "put object down": ("puts something down on the floor", "places something on the floor"),
    "wave both hands": ("waves with both hands", "waves both hands", "waves both arms", "waves their arms"),
    "raise both hands": ("raises both hands", "raises both arms", "lifts both arms", "puts both hands up"),
}
"""Predicates that are true of every clip of an action."""

_HAND_PHRASES = {
    "wave": ("waves with {} {} hand", "waves {} {} hand", "waves {} {} arm"),
    "raise": ("raises {} {} hand", "raises {} {} arm", "lifts {} {} arm"),
}
PHRASES |= {
    f"{verb} {side} hand": tuple(form.format(whose, side) for whose in ("the", "their") for form in forms)
    for verb, forms in _HAND_PHRASES.items()
    for side in ("left", "right")
}
