"""Are the words of a caption right? The action by a published list of synonyms, directions by the clip's own words.

synonyms.yaml names the actions; what a sentence says of left and right, forward and backward is found by
expressions. `judge_captions` counts what a model wrote, `validate_judge` how the judge judges what people wrote.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import yaml

from motiongpt3.data.labels import base_action
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import mirror_text

_SIDE = re.compile(r"\b(left|right)(?:wards?)?(?: (?:upper |fore|lower )?(\w+))?")
_RESTING = re.compile(
    r"\b(?:on|onto) (?:the|their|his|her) (?:left|right) (?:leg|foot)\b"
    r"|\b(?:left|right) (?:arm|hand|leg|foot)"
    r"(?: (?:hang|relax|rest|stay|stand|remain|kept|keep|straight)\w*| still| at (?:the|their|his|her))"
)
"""A side that does nothing: "onto the left leg", "the left arm hanging loose"."""
_NOUNS = {
    **dict.fromkeys(["arm", "arms", "hand", "hands", "forearm", "wrist", "elbow", "elbows", "fist", "shoulder"], "arm"),
    **dict.fromkeys(["leg", "legs", "foot", "feet", "thigh", "ankle"], "leg"),
    **dict.fromkeys(["knee", "knees"], "knee"),
}
_COURSE = re.compile(r"\b(forwards?|ahead|backwards?|in reverse|backs (?:away|up|off)|retreats?)\b")
_LEANING = re.compile(r"\b(lean|bend|bent|bow|tilt|fac|arm|hand|chest|look)\w*(?: \w+){0,5} (forward|backward)s?\b")
_TURNED = {"forward": "backward", "forwards": "backwards", "ahead": "backward", "backward": "forward",
           "backwards": "forwards"}  # fmt: skip
_TURNED_WORD = re.compile(r"\b(" + "|".join(_TURNED) + r")\b", re.IGNORECASE)
_BOTH = re.compile(
    r"\b(forth|back|(?:forwards?|ahead)\b.*\bbackwards?|backwards?\b.*\b(?:forwards?|ahead))\b", re.IGNORECASE
)
_SIDED = re.compile(
    r"\b(left|right|both|forwards?|ahead|backwards?|back|sideways|up|down|clockwise|counterclockwise)\w*\b",
    re.IGNORECASE,
)


def said(caption: str) -> dict[str, str]:
    """The first direction that a caption gives to each thing: {"arm": "left", "way": "right", "course": "forward"}."""
    text = _RESTING.sub(" ", caption.lower())
    found: dict[str, str] = {}
    for match in _SIDE.finditer(text):
        found.setdefault(_NOUNS.get(match[2] or "", "way"), match[1])
    course = _COURSE.search(_LEANING.sub(" ", text))
    if course:
        found["course"] = "forward" if course[1].startswith(("forward", "ahead")) else "backward"
    return found


def sides(text: str) -> tuple[str, ...]:
    """The words of side and direction of a sentence, in order."""
    return tuple(found.lower() for found in _SIDED.findall(text))


def other_side(text: str) -> str | None:
    """The sentence with left and right swapped; None where it names no side."""
    mirrored = mirror_text(text)
    return mirrored if mirrored != text else None


def other_direction(text: str) -> str | None:
    """The sentence with forward and backward swapped; None where it names neither, or both."""
    if _BOTH.search(text) or not _TURNED_WORD.search(text):
        return None
    return _reversed(text)


def _reversed(text: str) -> str:
    return _TURNED_WORD.sub(lambda match: _TURNED[match[0].lower()], text)


class Labelled(NamedTuple):
    """What is known of a clip: the captions people wrote, and its label ("raise right hand firmly")."""

    references: Sequence[str]
    label: str


@dataclass(frozen=True)
class ActionWords:
    """One action: the labels it stands for, and the words that name it and rule it out."""

    name: str
    labels: re.Pattern[str]
    words: re.Pattern[str]
    ruled_out: re.Pattern[str] | None

    def named_in(self, caption: str) -> bool:
        """Whether a caption says that this is what happens."""
        text = _ignored().sub(" ", caption.lower())
        return bool(self.words.search(text)) and not (self.ruled_out and self.ruled_out.search(text))


@cache
def actions() -> tuple[ActionWords, ...]:
    """The actions of synonyms.yaml, in the order in which labels are looked up."""
    return tuple(
        ActionWords(
            name, re.compile(entry["labels"]), _any(entry["words"]), _any(entry["not"]) if "not" in entry else None
        )
        for name, entry in _synonyms()["actions"].items()
    )


def action_of(label: str) -> ActionWords | None:
    """The action of a clip's label, or None where the list has none."""
    return next((action for action in actions() if action.labels.search(base_action(label))), None)


def _any(expressions: Sequence[str]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(expressions) + r")\b")


@cache
def _ignored() -> re.Pattern[str]:
    return _any(_synonyms()["ignored"])


@cache
def _synonyms() -> dict[str, Any]:
    content = files("motiongpt3.evaluation.checks").joinpath("synonyms.yaml").read_text(encoding="utf-8")
    result: dict[str, Any] = yaml.safe_load(content)
    return result


class Directions:
    """Left and right, forward and backward: what they may be in a caption of each clip.

    A side belongs to what it stands before: the arm, the leg, the knee, or the way ("to the left"). The first side
    that a caption gives to each counts; "the left arm hanging loose" after "raises the right arm" does not. Allowed is
    what at least a quarter of the clip's references that give one say, what the label says, and, where the label names
    a side, what a tenth of the references of all clips of that label say. What no reference speaks of is not judged.

    Args:
        clips: all clips that count as references, those to be judged among them.
    """

    def __init__(self, clips: Iterable[Labelled]) -> None:
        pools: dict[str, list[str]] = defaultdict(list)
        for clip in clips:
            pools[base_action(clip.label)] += clip.references
        self._pools = {label: _shares(map(said, texts), 0.1) for label, texts in pools.items()}

    def right(self, caption: str, clip: Labelled) -> dict[str, bool | None]:
        """Whether a caption's "left_right" and "forward_backward" agree with the clip's; None where not judged."""
        label = base_action(clip.label)
        known, pool = said(label), self._pools.get(label, {})
        allowed = _shares(map(said, clip.references), 0.25)
        judged: dict[str, list[bool]] = {"left_right": [], "forward_backward": []}
        for what, word in said(caption).items():
            kind = "forward_backward" if what == "course" else "left_right"
            fine = set(allowed.get(what, ())) | ({known[what]} if what in known else set())
            if any((key == "course") == (what == "course") for key in known):
                fine |= pool.get(what, set())
            if fine:
                judged[kind].append(word in fine)
        return {kind: all(verdicts) if verdicts else None for kind, verdicts in judged.items()}


def _shares(sayings: Iterable[Mapping[str, str]], least: float) -> dict[str, set[str]]:
    """Per thing the directions that at least a share of those say who say one."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for saying in sayings:
        for what, word in saying.items():
            counts[what][word] += 1
    return {
        what: {word for word, number in words.items() if number >= least * words.total()}
        for what, words in counts.items()
    }


@dataclass(frozen=True)
class CaptionReport:
    """How good captions are; shares are None where nothing was judged.

    Attributes:
        clips: captions in all.
        judged: those of clips whose label is in the list.
        action: share of these that name the action.
        left_right: share of captions with a side whose sides are right; `sides` of them.
        forward_backward: the same for forward and backward; `courses` of them.
        distinct: different captions among all.
        by_action: action -> (clips, share right).
        scores: BLEU-1, BLEU-4, ROUGE-L (0 to 1) and CIDEr against the raw references.
    """

    clips: int
    judged: int
    action: float | None
    left_right: float | None
    sides: int
    forward_backward: float | None
    courses: int
    distinct: int
    by_action: Mapping[str, tuple[int, float]]
    scores: Mapping[str, float]

    def table(self) -> str:
        """One line per action, then the totals."""
        lines = [f"{'action':<18}{'clips':>6}{'right':>7}"]
        lines += [f"{name:<18}{count:>6}{share:>7.0%}" for name, (count, share) in self.by_action.items()]
        lines += [
            f"action word right: {_percent(self.action)} of {self.judged} captions ({self.clips} clips)",
            f"left or right right: {_percent(self.left_right)} of the {self.sides} that name a side",
            f"forward or backward right: {_percent(self.forward_backward)} of the {self.courses} that name one",
            f"distinct captions: {self.distinct}",
            "against the raw references: " + ", ".join(f"{key} {value:.3f}" for key, value in self.scores.items()),
        ]
        return "\n".join(lines)


def judge_captions(
    captions: Sequence[str], clips: Sequence[Labelled], directions: Directions | None = None
) -> CaptionReport:
    """Judge one caption per clip.

    Args:
        captions: what a model wrote.
        clips: the clips, in the same order, with references.
        directions: made from more clips of the same data; None takes these.

    Raises:
        MotionGPT3Error: no captions, numbers that do not fit, or a clip without references.
    """
    from motiongpt3.evaluation.metrics.language import SCORES, CaptionScores

    if not captions or len(captions) != len(clips):
        raise MotionGPT3Error(f"{len(captions)} captions for {len(clips)} clips: one each is needed")
    directions = directions or Directions(clips)
    verdicts: dict[str, list[bool]] = defaultdict(list)
    turns: dict[str, list[bool]] = {"left_right": [], "forward_backward": []}
    for caption, clip in zip(captions, clips, strict=True):
        action = action_of(clip.label)
        if action is not None:
            verdicts[action.name].append(action.named_in(caption))
        for kind, right in directions.right(caption, clip).items():
            if right is not None:
                turns[kind].append(right)
    every = [right for rights in verdicts.values() for right in rights]
    scores = CaptionScores()
    scores.update(captions, [list(clip.references) for clip in clips], range(len(captions)))
    numbers = scores.compute()
    return CaptionReport(
        clips=len(captions),
        judged=len(every),
        action=_mean(every),
        left_right=_mean(turns["left_right"]),
        sides=len(turns["left_right"]),
        forward_backward=_mean(turns["forward_backward"]),
        courses=len(turns["forward_backward"]),
        distinct=len({" ".join(caption.lower().split()) for caption in captions}),
        by_action={name: (len(rights), sum(rights) / len(rights)) for name, rights in sorted(verdicts.items())},
        scores={name: float(numbers[name]) for name in SCORES},
    )


@dataclass(frozen=True)
class JudgeReport:
    """How the judge judges what people wrote.

    Attributes:
        captions: real captions of clips whose label is in the list, each judged for its own clip.
        unlisted: clips whose label is not.
        own: share of them that it calls right.
        others: share of (caption, action of another clip) pairs that it calls wrong.
        left_right: share with a side whose sides it calls right; `mirrored`: share it calls wrong once left and right
            are swapped.
        forward_backward: the same for forward and backward; `reversed` once these are swapped.
    """

    captions: int
    unlisted: int
    own: float
    others: float
    left_right: float | None
    mirrored: float | None
    forward_backward: float | None
    reversed: float | None

    def table(self) -> str:
        """Four lines."""
        return (
            f"{self.captions} real captions; {self.unlisted} clips have a label that is not in the list\n"
            f"captions of the clip called right: {self.own:.1%}; of clips of other actions called wrong: "
            f"{self.others:.1%}\n"
            f"left and right called right: {_percent(self.left_right)}; swapped, called wrong: "
            f"{_percent(self.mirrored)}\n"
            f"forward and backward called right: {_percent(self.forward_backward)}; swapped, called wrong: "
            f"{_percent(self.reversed)}"
        )


def validate_judge(clips: Sequence[Labelled], directions: Directions | None = None) -> JudgeReport:
    """Judge the clips' own references, those of clips of other actions, and the clips' own with directions swapped.

    Directions are judged with the caption itself left out of the clip's references.

    Raises:
        MotionGPT3Error: the list has fewer than two of the clips' actions.
    """
    directions = directions or Directions(clips)
    groups: dict[str, list[str]] = defaultdict(list)
    kinds: dict[str, list[bool]] = defaultdict(list)
    unlisted = 0
    for clip in clips:
        action = action_of(clip.label)
        if action is None:
            unlisted += 1
            continue
        groups[action.name] += clip.references
        for number, caption in enumerate(clip.references):
            rest = Labelled([*clip.references[:number], *clip.references[number + 1 :]], clip.label)
            for kind, swap in (("left_right", mirror_text), ("forward_backward", _reversed)):
                if (right := directions.right(caption, rest)[kind]) is not None:
                    kinds[kind].append(right)
                if (right := directions.right(swap(caption), rest)[kind]) is not None:
                    kinds[f"{kind} swapped"].append(not right)
    if len(groups) < 2:
        raise MotionGPT3Error(
            "the judge of captions needs clips of two actions or more; labels must be as in clips.jsonl"
        )
    listed = {action.name: action for action in actions()}
    total = sum(map(len, groups.values()))
    own_right = others_wrong = pairs = 0
    for name, own in groups.items():
        others = [text for other, texts in groups.items() if other != name for text in texts]
        own_right += sum(listed[name].named_in(text) for text in own)
        others_wrong += len(own) * sum(not listed[name].named_in(text) for text in others)
        pairs += len(own) * len(others)
    return JudgeReport(
        captions=total,
        unlisted=unlisted,
        own=own_right / total,
        others=others_wrong / pairs,
        left_right=_mean(kinds["left_right"]),
        mirrored=_mean(kinds["left_right swapped"]),
        forward_backward=_mean(kinds["forward_backward"]),
        reversed=_mean(kinds["forward_backward swapped"]),
    )


def _mean(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
