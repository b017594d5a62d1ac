"""What finishing and retargeting do to recorded and to generated motions; prints the table of docs/characters.md.

python benchmarks/finish.py --data data/mocap [--clips 50]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from motiongpt3 import Motion, MotionGPT3
from motiongpt3.data.dataset import PackedClips
from motiongpt3.formats import save
from motiongpt3.formats.rigged import load_character, write
from motiongpt3.formats.smpl import solve
from motiongpt3.motion.changes import report
from motiongpt3.motion.feet import added_speed, contacts, fix_feet, slides
from motiongpt3.motion.finish import finish

PROMPTS = (
    "a person walks forward", "a person runs forward and turns left", "a person walks backward",
    "a person waves with the right hand", "someone squats", "a person jumps", "a person sits down", "a person bows",
    "a person turns around", "a person walks in a circle", "a person steps to the left", "a person raises both arms",
    "a person kicks with the right leg", "a person lunges forward", "a person walks forward and waves",
    "a person jogs in place", "a person stands still", "a person walks slowly forward then turns right",
    "a person raises the left knee", "somebody runs",
)  # fmt: skip


def feet(name: str, motions: list[Motion]) -> None:
    """Print what fix_feet changes."""
    fixed = [fix_feet(motion) for motion in motions]
    found = [contacts(motion) for motion in motions]
    before = np.concatenate([slides(motion, own) for motion, own in zip(motions, found, strict=True)])
    after = np.concatenate([slides(motion, own) for motion, own in zip(fixed, found, strict=True)])
    pop = max(float(added_speed(*pair).max(initial=0)) for pair in zip(motions, fixed, strict=True)) * 5
    print(f"{name}: {len(motions)} motions, {len(before)} contacts")
    print(f"  held to 1 cm: {(before < 0.01).mean():.1%} -> {(after < 0.01).mean():.1%} of contacts")
    print(f"  slide per contact: mean {100 * before.mean():.2f} -> {100 * after.mean():.2f} cm")
    print(f"  fastest added movement: {pop:.2f} cm per frame of 1/20 s")
    for key in ("skate_speed", "slip_speed", "skate_ratio", "penetration_max", "jitter"):
        means = [np.mean([report(motion)[key] for motion in side]) for side in (motions, fixed)]
        print(f"  {key}: {means[0]:.3f} -> {means[1]:.3f}")


def loops(name: str, motions: list[Motion]) -> None:
    """Print how loops close."""
    facts = [report(finish(motion, loop=True)) for motion in motions if motion.seconds >= 1]
    pose, speed = (np.array([fact[key] for fact in facts]) for key in ("loop_pose", "loop_speed"))
    print(f"{name}: {len(facts)} loops, pose {pose.max():.3f} cm at most, velocity {np.median(speed):.2f} m/s median")


def bodies(name: str, motions: list[Motion]) -> None:
    """Print how well our mannequin as a rig and SMPL-shaped poses follow."""
    with tempfile.TemporaryDirectory() as folder:
        character = load_character(save(motions[0], Path(folder) / "rig.glb"))
        errors = [write(motion, character, Path(folder) / "out.glb").error for motion in motions]
        start = os.times()
        save(motions[0], Path(folder) / "film.mp4", body="mannequin")
        used = sum(os.times()[:4]) - sum(start[:4])
        print(f"mp4 with the mannequin: {len(motions[0])} frames in {used:.1f} s of processor time, ffmpeg included")
    print(f"{name}: on our mannequin {np.mean(errors):.2f} degrees off on average, {max(errors):.2f} at most")
    smpl = [1000 * solve(motion).error for motion in motions]
    print(f"{name}: SMPL-shaped poses {np.mean(smpl):.1f} mm off on average, {max(smpl):.1f} at most")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=50)
    options = parser.parse_args()
    pack = PackedClips.open(options.data)
    rows = pack.split("test")
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, options.clips).astype(int)]
    recorded = [Motion(pack.clip_joints(row), pack.fps) for row in chosen]
    made = MotionGPT3.from_pretrained().generate(list(PROMPTS), seconds=4, seed=0)
    for name, motions in (("recorded", recorded), ("generated", list(made))):
        feet(name, motions)
        loops(name, motions)
        bodies(name, motions)


if __name__ == "__main__":
    main()
