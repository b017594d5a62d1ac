"""The prompt check: does the motion do what the sentence says? Judged by kinematics, on any model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import yaml

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.checks.body_measures import Measures
from motiongpt3.evaluation.checks.kinematic_rules import RULES
from motiongpt3.motion.motion import Motion

PromptKind = Literal["plain", "free"]
Generate = Callable[[list[str], float, int], list[Motion]]
"""(texts, seconds, seed) -> one motion per text."""

PROMPT_BARS: dict[PromptKind, float] = {"plain": 0.85, "free": 0.65}
"""Score that a good model reaches."""
MARGIN_BAR = 0.50
"""Score minus shuffled score that a good model reaches on the plain prompts."""


@dataclass(frozen=True)
class PromptCase:
    """One prompt, the action that must be seen (a name in RULES) and the seconds to ask for."""

    text: str
    action: str
    seconds: float = 4.0


@dataclass(frozen=True)
class PromptResult:
    """What came of one prompt: per seed, all actions whose rules said yes."""

    case: PromptCase
    seen: tuple[tuple[str, ...], ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """Per seed, whether its action was seen."""
        return tuple(self.case.action in seen for seen in self.seen)


@dataclass(frozen=True)
class PromptReport:
    """The results of all prompts; scores are fractions of all motions, one per prompt and seed."""

    seeds: tuple[int, ...]
    results: tuple[PromptResult, ...]

    @property
    def score(self) -> float:
        """Motions that show their prompt's action."""
        return float(np.mean([result.right for result in self.results]))

    @property
    def shuffled(self) -> float:
        """The score with the prompts shuffled among the motions, averaged over all permutations.

        With N motions that is the mean of rule j on motion i over all N x N pairs (i, j), so no permutation needs to be
        drawn. Lenient rules, or a model that always moves alike, raise it.
        """
        actions = [result.case.action for result in self.results]
        motions = [seen for result in self.results for seen in result.seen]
        return float(np.mean([[action in seen for action in actions] for seen in motions]))

    @property
    def margin(self) -> float:
        """Score minus shuffled score."""
        return self.score - self.shuffled

    @property
    def actions(self) -> dict[str, float]:
        """Score per action, in the order of the prompts."""
        right: dict[str, list[bool]] = {}
        for result in self.results:
            right.setdefault(result.case.action, []).extend(result.right)
        return {action: float(np.mean(values)) for action, values in right.items()}

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "score": self.score,
            "shuffled": self.shuffled,
            "margin": self.margin,
            "seeds": list(self.seeds),
            "actions": self.actions,
            "prompts": [
                {**vars(result.case), "right": list(result.right), "seen": [list(seen) for seen in result.seen]}
                for result in self.results
            ],
        }

    def table(self) -> str:
        """One line per action with its failed prompts and what was seen instead, then the totals."""
        lines = [f"{'action':<28}{'right':>7}  failed prompts (times failed: seen instead)"]
        for action, score in self.actions.items():
            failed = []
            for result in self.results:
                wrong = [seen for right, seen in zip(result.right, result.seen, strict=True) if not right]
                if result.case.action == action and wrong:
                    instead = ", ".join(sorted({name for seen in wrong for name in seen})) or "no known action"
                    failed.append(f"{result.case.text!r} ({len(wrong)}: {instead})")
            lines.append(f"{action:<28}{score:>7.0%}  {'; '.join(failed)}".rstrip())
        lines.append(
            f"{len(self.results)} prompts x {len(self.seeds)} seeds: {self.score:.1%} right, "
            f"{self.shuffled:.1%} with the prompts shuffled, margin {100 * self.margin:.1f} points"
        )
        return "\n".join(lines)


def load_prompts(kind: PromptKind = "plain") -> list[PromptCase]:
    """The prompts of `prompts.yaml`: "plain" captions, or "free" wording found in no training caption.

    Raises:
        MotionGPT3Error: another kind.
    """
    if kind not in PROMPT_BARS:
        raise MotionGPT3Error(f"prompts are 'plain' or 'free', not {kind!r}")
    return [
        PromptCase(text, action, float(entry.get("seconds", 4)))
        for action, entry in _entries().items()
        for text in entry.get(kind, [])
    ]


def real_clips() -> dict[str, re.Pattern[str]]:
    """Action -> expression that the `short` label of a real clip of that action matches."""
    return {action: re.compile(entry["real"]) for action, entry in _entries().items() if "real" in entry}


def evaluate_prompts(
    generate: Generate,
    cases: Sequence[PromptCase],
    seeds: Sequence[int] = (0, 1, 2, 3),
    batch_size: int = 32,
) -> PromptReport:
    """Generate every prompt with every seed and judge the motions.

    Args:
        generate: (texts, seconds, seed) -> one motion per text; called with at most `batch_size` texts.
        cases: the prompts, from `load_prompts` or one's own.
        seeds: seeds passed on to `generate`.
        batch_size: most texts in a call.

    Raises:
        MotionGPT3Error: no prompt, no seed, an unknown action, a wrong number of motions, or a motion `Measures`
            refuses.
    """
    if not cases or not seeds:
        raise MotionGPT3Error("the prompt check needs at least one prompt and one seed")
    for case in cases:
        if case.action not in RULES:
            raise MotionGPT3Error(f"no rule for the action {case.action!r}; known are: {', '.join(RULES)}")
    seen: list[list[tuple[str, ...]]] = [[] for _ in cases]
    for seconds in sorted({case.seconds for case in cases}):
        same = [i for i, case in enumerate(cases) if case.seconds == seconds]
        for seed in seeds:
            for start in range(0, len(same), batch_size):
                batch = same[start : start + batch_size]
                motions = generate([cases[i].text for i in batch], seconds, seed)
                if len(motions) != len(batch):
                    raise MotionGPT3Error(f"asked for {len(batch)} motions, got {len(motions)}")
                for i, motion in zip(batch, motions, strict=True):
                    body = Measures(motion)
                    seen[i].append(tuple(name for name, rule in RULES.items() if rule(body)))
    results = (PromptResult(case, tuple(found)) for case, found in zip(cases, seen, strict=True))
    return PromptReport(tuple(seeds), tuple(results))


@dataclass(frozen=True)
class RuleReport:
    """How the rules judge real clips.

    Attributes:
        actions: the actions that have clips, A of them.
        clips: number of clips of each.
        rates: (A, A); row i, column j: fraction of the clips of action i to which rule j says yes.
    """

    actions: tuple[str, ...]
    clips: tuple[int, ...]
    rates: np.ndarray[tuple[int, int], np.dtype[np.float64]]

    @property
    def yes(self) -> dict[str, float]:
        """Fraction of its own clips to which each rule says yes."""
        return {action: float(self.rates[i, i]) for i, action in enumerate(self.actions)}

    @property
    def false_yes(self) -> dict[str, float]:
        """For each rule the fraction of yes among the clips of another action, averaged over the other actions."""
        others = max(len(self.actions) - 1, 1)
        sums = self.rates.sum(axis=0) - np.diag(self.rates)
        return {action: float(sums[i] / others) for i, action in enumerate(self.actions)}

    def table(self) -> str:
        """One line per action: clips, yes, false yes, and the actions whose clips it says yes to most often."""
        lines = [f"{'action':<28}{'clips':>6}{'yes':>7}{'false':>7}  most often mistaken for it"]
        for j, action in enumerate(self.actions):
            rates = [
                (rate, other) for rate, other in zip(self.rates[:, j], self.actions, strict=True) if other != action
            ]
            worst = ", ".join(f"{other} {rate:.0%}" for rate, other in sorted(rates, reverse=True)[:3] if rate >= 0.05)
            yes, false = self.yes[action], self.false_yes[action]
            lines.append(f"{action:<28}{self.clips[j]:>6}{yes:>7.1%}{false:>7.1%}  {worst}".rstrip())
        return "\n".join(lines)


def validate_rules(clips: Iterable[tuple[Motion, str]]) -> RuleReport:
    """Judge real clips by the rules.

    Args:
        clips: motions with their `short` labels; clips of no listed action are passed over.

    Raises:
        MotionGPT3Error: no clip of any action, or a motion `Measures` refuses.
    """
    patterns = real_clips()
    names = list(patterns)
    count = np.zeros(len(names), dtype=np.int64)
    yes = np.zeros((len(names), len(names)))
    for motion, label in clips:
        shown = [i for i, name in enumerate(names) if patterns[name].search(label)]
        if shown:
            body = Measures(motion)
            count[shown] += 1
            yes[shown] += [RULES[name](body) for name in names]
    kept = np.flatnonzero(count)
    if not len(kept):
        raise MotionGPT3Error("none of the clips shows an action of the prompt check; labels must be as in clips.jsonl")
    rates = yes[np.ix_(kept, kept)] / count[kept, None]
    return RuleReport(tuple(names[i] for i in kept), tuple(int(count[i]) for i in kept), rates)


def _entries() -> dict[str, dict[str, Any]]:
    content = files("motiongpt3.evaluation.checks").joinpath("prompts.yaml").read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = yaml.safe_load(content)
    return entries
