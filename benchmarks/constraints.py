"""What constraints cost: python benchmarks/constraints.py --data data/mocap

Cases of recorded test clips (prompt and constraints of one clip; clips that may be redistributed: CMU, HDM05, UI-PRMD)
and cases that no recording has (circles, squares, backwards, a hand on a fixed point …). Each is drawn with constraints
and, from the same seed, without. `--write FOLDER` writes the recorded cases as scenes in Kimodo's layout; they are read
back from there before they are drawn, so that anybody who has the folder measures the same.

Per group of cases: the error before the exact fit (mean over joints and frames; and its 90th percentile over cases),
the largest after it, R@3 and FID of our evaluator against the free draws, skating frames, jitter, the heading's error
on paths, processor time.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from motiongpt3 import Motion, MotionGPT3
from motiongpt3 import constraints as c
from motiongpt3.control.constraints import resolve
from motiongpt3.data.clips import PackedClips
from motiongpt3.evaluation.metrics.distribution import frechet_distance
from motiongpt3.evaluation.metrics.retrieval import r_precision
from motiongpt3.evaluation.tmr import MotionTextEvaluator, load_evaluator
from motiongpt3.motion.poses import bone_lengths, heading
from motiongpt3.motion.quality import jitter, skate_ratio

LICENCES = ("CMU-free-use", "CC-BY-SA-3.0", "PDDL-1.0")
HANDS, FOOT = ("l_wrist", "r_wrist"), ("r_ankle", "r_foot")


@dataclass
class Case:
    """One thing to draw.

    Attributes:
        name: kind of case.
        scene: prompt, duration and constraints.
        recorded: the clip that it was made of, None for invented ones.
    """

    name: str
    scene: c.Scene
    recorded: Motion | None = None


def keyframes(clip: Motion, frames: Sequence[int], joints: tuple[str, ...] | None = None) -> list[c.AnyConstraint]:
    return [c.Keyframe(clip.joints[n], frame=n, joints=joints) for n in frames]


def path(clip: Motion, frames: Sequence[int]) -> list[c.AnyConstraint]:
    """The smoothed root, as Kimodo has it."""
    from motiongpt3.control.bend import smooth_root

    way = smooth_root(clip.joints[:, 0, [0, 2]].astype(np.float64), clip.fps)
    return [c.RootPath(way[list(frames)], frames=list(frames), smooth=True)]


def spread(clip: Motion, count: int) -> list[int]:
    return [round(n) for n in np.linspace(0, len(clip) - 1, count + 2)[1:-1]]


def recorded_kinds(clip: Motion) -> dict[str, list[c.AnyConstraint]]:
    """Constraints of a clip by kind."""
    every, one, five = range(len(clip)), spread(clip, 1), spread(clip, 5)
    held = {"1": one, "5": five, "all": list(every)}
    kinds = {
        "1 keyframe": keyframes(clip, one),
        "5 keyframes": keyframes(clip, five),
        "waypoints 0.5 s": path(clip, every[::10]),
        "waypoints 1 s": path(clip, every[::20]),
        "dense path": path(clip, every),
        "keyframe + path": [*keyframes(clip, one), *path(clip, every[::10])],
        "all together": [
            *path(clip, every[::10]),
            *keyframes(clip, one),
            *keyframes(clip, five, ("pelvis", "l_wrist")),
        ],
    }
    for name, joints in (("hand", HANDS[:1]), ("both hands", HANDS), ("foot", FOOT)):
        for count, frames in held.items():
            kinds[f"{name} {count}"] = keyframes(clip, frames, ("pelvis", *joints))
    return kinds


def recorded_cases(data: PackedClips, count: int) -> Iterator[Case]:
    """Cases of test clips, kinds in turn."""
    rows = [n for n in data.split("test") if data.clips[n].license in LICENCES and 40 <= data.clips[n].frames <= 196]
    chosen = [rows[round(n)] for n in np.linspace(0, len(rows) - 1, count)]
    for number, row in enumerate(chosen):
        clip = Motion(data.clip_joints(row), data.fps)
        kinds = recorded_kinds(clip)
        name = list(kinds)[number % len(kinds)]
        yield Case(name, c.Scene((data.clips[row].captions[0],), (clip.seconds,), tuple(kinds[name]), 0), clip)


def invented_cases(count: int) -> Iterator[Case]:
    """Cases that no recording has, kinds in turn, a new seed each round."""
    frames = np.arange(120)  # 6 s
    way = 1.1 * frames / 20

    def circle(radius: float) -> np.ndarray:
        return np.stack([radius - radius * np.cos(way / radius), radius * np.sin(way / radius)], axis=-1)

    def ahead(distance: np.ndarray) -> np.ndarray:
        return np.stack([0 * distance, distance], axis=-1)

    def walk(xz: np.ndarray, every: int = 1, **more: np.ndarray) -> list[c.AnyConstraint]:
        return [c.RootPath(xz[::every], frames=frames[::every], **more)]

    corners = np.array([[0, 0], [0, 1.6], [1.6, 1.6], [1.6, 0], [0, 0]])
    square = np.stack([np.interp(way, 1.6 * np.arange(5), corners[:, axis]) for axis in (0, 1)], axis=-1)
    eight = np.where((way / 0.9 > 2 * np.pi)[:, None], circle(0.9) * [-1, 1], circle(0.9))
    round_ = np.stack([0.35 + 0.2 * np.cos(way), 1.3 + 0.2 * np.sin(way), 0.35 + 0 * way], axis=-1)
    touch = c.EffectorTarget("left_hand", np.tile([0.4, 1.1, 2.6], (11, 1)), frames=np.arange(42, 53))
    standing = t_pose_at(0, 0)
    two = [c.Keyframe(standing, frame=40), c.Keyframe(standing + np.array([0, 0, 3.0]), frame=80)]
    still = np.zeros(len(frames))
    kinds: dict[str, tuple[str, list[c.AnyConstraint]]] = {
        "circle of 1 m": ("a person walks in a circle", walk(circle(1.0))),
        "circle of 2 m": ("a person walks in a circle", walk(circle(2.0))),
        "square": ("a person walks forward", walk(square)),
        "figure of eight": ("a person walks forward", walk(eight)),
        "S": ("a person walks forward", walk(np.stack([0.5 * np.sin(way), way], axis=-1))),
        "backwards": ("a person walks backwards", walk(ahead(-0.7 * way), headings=still)),
        "sideways": ("a person steps sideways to the left", walk(ahead(0.7 * way)[:, ::-1], headings=still)),
        "touch while walking past": ("a person walks forward", [*walk(ahead(way), 20), touch]),
        "hand on a circle": (
            "a person waves with the left hand",
            [c.EffectorTarget("left_hand", round_, frames=frames)],
        ),
        "stop on a mark": ("a person walks forward and stops", walk(ahead(np.minimum(way, 3.0)))),
        "two poses, 2 s and 3 m apart": ("a person walks forward", two),
    }
    for number in range(count):
        name = list(kinds)[number % len(kinds)]
        yield Case(name, c.Scene(kinds[name][:1], (6.0,), tuple(kinds[name][1]), number // len(kinds)))


def t_pose_at(x: float, z: float) -> np.ndarray:
    """(22, 3) somebody who stands with the arms out."""
    from motiongpt3.control.kimodo import posed

    pose = posed(torch.zeros(1, 22, 3), np.zeros((1, 3)))[0]
    return pose - [0, pose[:, 1].min(), 0] + np.array([x, 0, z])


@dataclass
class Outcome:
    """What came of a case.

    Attributes:
        case: it.
        motion: with constraints.
        free: of the same seed, without.
        errors: metres before the exact fit, by keyframe, root and effector.
        exact: metres and radians after it, and metres of bones.
        facing: degrees off the path's direction, or off the headings given, NaN without a path.
        seconds: of processor time.
    """

    case: Case
    motion: Motion
    free: Motion
    errors: dict[str, float]
    exact: tuple[float, float, float]
    facing: float
    seconds: float


def run(model: MotionGPT3, case: Case) -> Outcome:
    """Draw a case with its constraints and without."""
    scene = case.scene
    free = model.generate(scene.prompts[0], scene.seconds[0], seed=scene.seed or 0)
    began = time.process_time()
    motion = model.generate(
        scene.prompts[0], scene.seconds[0], constraints=scene.constraints, best_effort=True, seed=scene.seed or 0
    )
    spent = time.process_time() - began
    report = motion.constraint_report
    errors: dict[str, list[float]] = {}
    for one in report.constraints:
        errors.setdefault(one.kind if "keyframe of" not in one.name else "effector", []).append(one.drawn_mean)
    after = max(one.fitted_max for one in report.constraints)
    turned = max(one.fitted_heading for one in report.constraints)
    bones = float(np.ptp(bone_lengths(motion.joints.astype(np.float64)), axis=0).max())
    means = {kind: float(np.mean(values)) for kind, values in errors.items()}
    return Outcome(case, motion, free, means, (after, turned, bones), facing_error(case, motion), spent)


def facing_error(case: Case, motion: Motion) -> float:
    """Mean degrees between where the person faces and the path goes (or is told to face), where it goes anywhere."""
    if case.recorded is not None:
        return float("nan")
    for one in resolve(case.scene.constraints, len(motion), motion.fps).constraints:
        if one.kind == "root" and len(one.frames) == len(motion):
            step = np.gradient(one.positions[:, 0][:, [0, 2]], axis=0)
            told = np.arctan2(step[:, 0], step[:, 1]) if np.isnan(one.headings).all() else one.headings
            moving = np.linalg.norm(step, axis=-1) * motion.fps > 0.3
            off = (heading(motion.joints) - told + np.pi) % (2 * np.pi) - np.pi
            return float(np.degrees(np.abs(off[moving]).mean()))
    return float("nan")


def table(title: str, outcomes: Sequence[Outcome], evaluator: MotionTextEvaluator) -> None:
    """Print a line per kind and the bars of a group."""
    print(f"\n{title}: {len(outcomes)} cases")
    columns = f"{'keyframe':>9} {'root':>7} {'effector':>9} {'after':>9} {'skate':>11} {'jitter':>11} {'facing':>7}"
    print(f"{'kind':30} {columns} {'s':>5}")
    for name in dict.fromkeys(outcome.case.name for outcome in outcomes):
        line(name, [outcome for outcome in outcomes if outcome.case.name == name])
    line("all", outcomes)
    texts = evaluator.embed_texts([outcome.case.scene.prompts[0] for outcome in outcomes])
    held, free = (evaluator.embed_motions([getattr(o, which) for o in outcomes]) for which in ("motion", "free"))
    if title == "recorded" and len(outcomes) >= 32:
        ranks = [float(r_precision(texts, made)["r_precision_3"]) for made in (held, free)]
        real = evaluator.embed_motions([outcome.case.recorded for outcome in outcomes if outcome.case.recorded])
        away = [float(frechet_distance(made, real)) for made in (held, free)]
        print(f"R@3 {ranks[0]:.3f}, free {ranks[1]:.3f}: {ranks[0] / ranks[1]:.3f} (bar 0.95)")
        print(f"FID {away[0]:.4f}, free {away[1]:.4f}: {away[0] - away[1]:+.4f} (bar +0.02)")
    met = [outcome.exact[0] <= 1e-5 and outcome.exact[1] <= 1e-3 for outcome in outcomes]
    bones = max(outcome.exact[2] for outcome in outcomes)
    print(f"exact (<= 1e-5 m, <= 1e-3 rad): {sum(met)} of {len(met)}; bones vary by {bones:.1e} m")
    for outcome in outcomes:
        for problem in outcome.motion.constraint_report.problems[:1]:
            print(f"  not met, {outcome.case.name}: {problem}")


def line(name: str, outcomes: Sequence[Outcome]) -> None:
    """Print the means of some outcomes; behind each error the 90th percentile, behind skate and jitter their ratio."""

    def error(kind: str) -> str:
        values = [100 * outcome.errors[kind] for outcome in outcomes if kind in outcome.errors]
        return f"{np.mean(values):.1f}/{np.percentile(values, 90):.1f}" if values else "-"

    skate, jerk = ([[f(o.motion), f(o.free)] for o in outcomes] for f in (skate_ratio, jitter))
    cells = []
    for values in (skate, jerk):
        made, free = np.mean(values, axis=0)
        cells.append(f"{made:.2f}/{made / max(free, 1e-9):.2f}x" if made < 1.01 else f"{made:.0f}/{made / free:.2f}x")
    faces = [outcome.facing for outcome in outcomes if not np.isnan(outcome.facing)]
    after, spent = max(outcome.exact[0] for outcome in outcomes), np.mean([outcome.seconds for outcome in outcomes])
    told = f"{np.mean(faces):.1f}" if faces else "-"
    print(
        f"{name:30} {error('keyframe'):>9} {error('root'):>7} {error('effector'):>9} {after:9.1e} {cells[0]:>11} "
        f"{cells[1]:>11} {told:>7} {spent:5.2f}"
    )


def main() -> None:
    """Print a table of each group."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/mocap")
    parser.add_argument("--recorded", type=int, default=200)
    parser.add_argument("--invented", type=int, default=100)
    parser.add_argument("--write", help="folder for the recorded cases as scenes")
    options = parser.parse_args()
    model, evaluator = MotionGPT3.from_pretrained(), load_evaluator()
    with TemporaryDirectory() as work:
        folder = Path(options.write or work)
        cases = list(recorded_cases(PackedClips.open(options.data), options.recorded))
        for number, case in enumerate(cases):
            name = re.sub(r"\W+", "-", case.name)
            case.scene = c.load_scene(c.save_scene(case.scene, folder / f"{number:03d}-{name}"))
    print(
        "errors in cm, mean/90th percentile, before the exact fit; after: m; skate and jitter: ratio to the free draw"
    )
    for title, some in (("recorded", cases), ("invented", list(invented_cases(options.invented)))):
        if some:
            table(title, [run(model, case) for case in some], evaluator)


if __name__ == "__main__":
    main()
