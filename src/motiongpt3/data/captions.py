"""Captions of joined and layered motions: the grammar of "somebody does something" sentences."""

from __future__ import annotations

import re

import numpy as np

_SUBJECT = re.compile(
    r"(?:(?:a|the|this) (?:person|human figure|human|figure)|(?:an|the|this) individual|someone|somebody)"
    r"\s+(?P<rest>[a-z].*)",
    re.IGNORECASE,
)
_STANDING = re.compile(r"^a standing person\b", re.IGNORECASE)
_GENDERED = re.compile(r"\b(he|she|his|her|hers|him|himself|herself|man|men|woman|women|lady|guy|girl|boy)\b", re.I)
_SEVERAL = re.compile(r",|;|:|\b(and|then|before|after|while|until|so|but|as)\b")
_ADVERB = re.compile(r"[a-z]{3,}ly\b")
_COUNT = re.compile(
    r"\b(once|twice|single|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|"
    r"fifty|times?|steps|meters?|metres?|seconds?|degrees?|quarter|total|distance|stretch|long|short|many|several|few|"
    r"moment|pause)\b"
)
_VERB_LIST = """
    raises lifts walks waves does runs moves puts takes swings makes holds brings goes sits performs lunges turns bends
    squats jogs reaches stretches lowers stands shows rotates heads steps exercises signals changes throws gives extends
    greets rounds dances drops sinks leans says kicks breaks shifts covers jumps starts dips draws volunteers points
    balances crosses shoots climbs sways crouches picks gets acts wiggles pushes advances dribbles strides places sends
    pulls sneaks twists spreads practices marches bows shakes dashes leaps sprints settles strolls lies kneels rushes
    hops backs rolls pivots races springs slides mimes steers gestures creeps hurries completes rocks curves rises
    bounces shuffles charges spins touches stays cuts leads trudges drags grabs punches directs tilts saunters ducks
    sets lays trots veers bobs travels swaggers stoops bounds glides boxes drinks plods strikes jabs halts stops ambles
    drifts retreats circles poses crawls wanders continues comes
"""
_DOUBLED_LIST = """
    run sit put jog squat step get hop dip drop spin bob stop trot grab strut plod cut set tip skip clap nod drag jab
"""
_VERBS = frozenset(_VERB_LIST.split())
_DOUBLED = frozenset(_DOUBLED_LIST.split())

LOWER_ONLY = re.compile(
    r"\b(arms?|hands?|elbows?|fists?|wrists?|forearms?|shoulders?|upper|torso|chest|head|body|stop\w*|stand\w*|still)\b"
)
"""Words that make a caption of a walk unfit once the upper body is another's."""
UPPER_ONLY = re.compile(
    r"\b(stand\w*|place|still|feet|foot|legs?|knees?|spot|stays?|upright|walk\w*|step\w*|bod(y|ies)|moment|pause|"
    r"other|only|just|keeping|hangs?|relaxed|sides?|seconds?|after|before)\b"
)
"""Words that make a caption of a gesture unfit once the legs are another's."""


def finite_predicate(caption: str) -> str | None:
    """ "a person walks forward." -> "walks forward"; None where it begins otherwise or speaks of he or she.

    "is walking" becomes "walks" where the sentence has one verb; without a full stop.
    """
    text = _STANDING.sub("a person", caption.strip().rstrip(".").strip())
    match = _SUBJECT.fullmatch(text)
    if match is None or _GENDERED.search(text):
        return None
    predicate = match["rest"]
    verb, _, rest = predicate.partition(" ")
    if verb == "is":
        finite = _FINITE.get(rest.partition(" ")[0])
        if finite is None or _SEVERAL.search(rest):
            return None
        predicate = " ".join([finite, *rest.split(" ")[1:]])
    elif verb.rstrip(",") not in _VERBS:
        following = rest.partition(" ")[0]
        if not (_ADVERB.fullmatch(verb) and following in _VERBS):
            return None
    return predicate


def gerund(predicate: str) -> str | None:
    """ "walks forward" -> "walking forward"; None for several verbs in a row or a verb that is not known."""
    verb, space, rest = predicate.partition(" ")
    if verb not in _VERBS or _SEVERAL.search(predicate):
        return None
    return _ing(verb) + space + rest


def join_predicates(subject: str, first: str, second: str, rng: np.random.Generator) -> str:
    """ "a person", "walks", "waves" -> "a person walks and then waves." and many other ways to say it."""
    again = "the " + (subject.split(" ", 1)[1] if " " in subject else "person")
    forms = [
        f"{subject} {first} and then {second}",
        f"{subject} {first} and then {second}",
        f"{subject} {first}, then {second}",
        f"{subject} {first} and afterwards {second}",
        f"{subject} {first}, and after that {second}",
        f"{subject} {first}. then {again} {second}",
    ]
    if first.partition(" ")[0] in _VERBS:
        forms.append(f"{subject} first {first} and then {second}")
    if not re.search(r"\b(arms?|hands?|waves?)\b", first + " " + second):
        forms.append(f"{subject} {first} and {second}")
    second_ing, first_ing = gerund(second), gerund(first)
    if second_ing:
        forms.append(f"{subject} {first} before {second_ing}")
    if first_ing:
        forms.append(f"after {first_ing}, {subject} {second}")
    return str(rng.choice(forms)) + "."


def layer_predicates(subject: str, lower: str, upper: str, rng: np.random.Generator) -> str | None:
    """ "a person", "walks", "waves" -> "a person walks while waving."; None where no form of it is grammatical."""
    lower_ing, upper_ing = gerund(lower), gerund(upper)
    forms = []
    if upper_ing:
        forms += [f"{subject} {lower} while {upper_ing}"] * 2
    if lower_ing:
        forms += [f"{subject} {upper} while {lower_ing}", f"while {lower_ing}, {subject} {upper}"]
    if lower_ing and upper_ing:
        forms += [f"{subject} {lower} and {upper}"] * 3
        forms += [
            f"{subject} is {lower_ing} and {upper_ing}",
            f"{subject} is {lower_ing} while {upper_ing}",
            f"{subject} {lower} and {upper} at the same time",
            f"{subject} {lower}, {upper_ing}",
        ]
    return str(rng.choice(forms)) + "." if forms else None


def counts(caption: str) -> bool:
    """Whether a caption says how many, how far or how long, and so may be false of a longer motion."""
    return bool(_COUNT.search(caption.lower()))


def _ing(verb: str) -> str:
    if verb == "lies":
        return "lying"
    stem = verb[:-2] if re.search(r"(ss|sh|ch|x|zz|o)es$", verb) else verb[:-1]
    if verb.endswith("ies"):
        stem = verb[:-3] + "y"
    if stem in _DOUBLED:
        return stem + stem[-1] + "ing"
    if stem.endswith("e") and not stem.endswith(("ee", "oe")):
        stem = stem[:-1]
    return stem + "ing"


_FINITE = {_ing(verb): verb for verb in sorted(_VERBS)}
