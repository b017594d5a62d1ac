"""What finishing and retargeting do to recorded and to generated motions; prints the table of docs/characters.md.

python benchmarks/finish.py --data data/mocap [--clips 50] [--seed 21]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from motiongpt3 import Motion, MotionGPT3
from motiongpt3.data.clips import PackedClips
from motiongpt3.formats import save
from motiongpt3.formats.glb import load_character, write_character
from motiongpt3.formats.smpl import smpl_poses
from motiongpt3.motion.contacts import find_contacts, frames_of, slides
from motiongpt3.motion.foot_lock import MAX_SLIDE, added_way, lock_feet
from motiongpt3.motion.loop import kinks
from motiongpt3.motion.postprocess import postprocess, report
from motiongpt3.motion.resample import resampled

PROMPTS = (
    "a person walks forward", "a person runs forward and turns left", "a person walks backward",
    "a person waves with the right hand", "someone squats", "a person jumps", "a person sits down", "a person bows",
    "a person turns around", "a person walks in a circle", "a person steps to the left", "a person raises both arms",
    "a person kicks with the right leg", "a person lunges forward", "a person walks forward and waves",
    "a person jogs in place", "a person stands still", "a person walks slowly forward then turns right",
    "a person raises the left knee", "somebody runs",
)  # fmt: skip


def feet(name: str, motions: list[Motion]) -> tuple[int, int]:
    """Print what fix_feet changes; the contacts of the fixed motions, and how many of them slide."""
    fixed = [lock_feet(motion) for motion in motions]
    found = [find_contacts(motion) for motion in motions]
    again = [find_contacts(motion) for motion in fixed]
    before, held, after = (
        np.concatenate([slides(motion, own) for motion, own in zip(side, which, strict=True)])
        for side, which in ((motions, found), (fixed, found), (fixed, again))
    )
    stands = [np.mean([frames_of(own) / len(m) / 2 for own, m in zip(f, motions, strict=True)]) for f in (found, again)]
    up = max(upward(*pair) for pair in zip(motions, fixed, strict=True)) * 100
    pop = max(float(added_way(*pair).max(initial=0)) for pair in zip(motions, fixed, strict=True)) * 100
    moved = [np.linalg.norm(y.joints - x.joints, axis=-1).mean() for x, y in zip(motions, fixed, strict=True)]
    lowest = min(float(motion.joints[:, [7, 8, 10, 11], 1].min()) for motion in fixed)
    print(f"{name}: {len(motions)} motions, {len(before)} contacts")
    print(f"  slide under 1 cm: {(before < MAX_SLIDE).mean():.1%} -> {(after < MAX_SLIDE).mean():.1%} of each")
    print(f"  of the contacts found before: -> {(held < MAX_SLIDE).mean():.1%}")
    print(f"  feet that stand: {stands[0]:.1%} -> {stands[1]:.1%} of frames")
    print(f"  slide per contact: mean {100 * before.mean():.2f} -> {100 * after.mean():.2f} cm")
    print(f"  fastest added movement: {pop:.2f} cm in 1/20 s, upwards or downwards {up:.2f}")
    print(f"  joints moved by {100 * np.mean(moved):.2f} cm on average; lowest foot {lowest:.3f} m")
    for key in ("skate_speed", "slip_speed", "skate_ratio", "penetration_max", "jitter"):
        means = [np.mean([report(motion)[key] for motion in side]) for side in (motions, fixed)]
        print(f"  {key}: {means[0]:.3f} -> {means[1]:.3f}")
    return len(after), int((after >= MAX_SLIDE).sum())


def upward(before: Motion, after: Motion) -> float:
    """How much farther up or down than it did a joint goes within 1/20 s, at most, in metres."""
    flat = [m.replace(joints=m.joints * np.array([0, 1, 0], dtype=np.float32)) for m in (before, after)]
    return float(added_way(flat[0], flat[1]).max(initial=0))


def loops(name: str, motions: list[Motion]) -> None:
    """Print how loops close."""
    made = [postprocess(motion, loop=True) for motion in motions if motion.seconds >= 1]
    facts = [report(cycle) for cycle in made]
    pose, speed, kink = (np.array([fact[key] for fact in facts]) for key in ("loop_pose", "loop_speed", "loop_kink"))
    inside = np.array([kinks(cycle.joints.astype(np.float64)).max() * cycle.fps for cycle in made])
    print(f"{name}: {len(facts)} loops, pose {pose.max():.3f} cm at most, velocity {np.median(speed):.2f} m/s median")
    print(f"  kink {np.median(kink):.3f} m/s median, {kink.max():.2f} at most")
    print(f"  no harder than inside: {(kink <= inside).mean():.0%} of loops")


def bodies(name: str, motions: list[Motion]) -> None:
    """Print how well our mannequin as a rig and SMPL-shaped poses follow."""
    with tempfile.TemporaryDirectory() as folder:
        character = load_character(save(motions[0], Path(folder) / "rig.glb"))
        errors = [write_character(motion, character, Path(folder) / "out.glb").error for motion in motions]
        start = os.times()
        save(motions[0], Path(folder) / "film.mp4", body="mannequin")
        used = sum(os.times()[:4]) - sum(start[:4])
        print(f"mp4 with the mannequin: {len(motions[0])} frames in {used:.1f} s of processor time, ffmpeg included")
    print(f"{name}: on our mannequin {np.mean(errors):.2f} degrees off on average, {max(errors):.2f} at most")
    smpl = [1000 * smpl_poses(motion).error for motion in motions]
    print(f"{name}: SMPL-shaped poses {np.mean(smpl):.1f} mm off on average, {max(smpl):.1f} at most")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--seed", type=int, default=21)
    options = parser.parse_args()
    pack = PackedClips.open(options.data)
    rows = pack.split("test")
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, options.clips).astype(int)]
    recorded = [Motion(pack.clip_joints(row), pack.fps) for row in chosen]
    captions = [clip.captions[0] for clip in (pack.clips[row] for row in rows[2::9]) if clip.captions]
    model = MotionGPT3.from_pretrained()
    made = list(model.generate(list(PROMPTS), seconds=4, seed=options.seed))
    told = list(model.generate(captions, seed=options.seed))
    total = np.zeros(2, dtype=int)
    for name, motions in (("recorded", recorded), ("generated", made), ("of test captions", told)):
        for fps in (20, 30, 60):
            some = motions if fps == 20 else [resampled(motion, fps) for motion in motions]
            total += feet(f"{name} at {fps} fps", some)
        loops(name, motions)
        bodies(name, motions)
    print(f"of all {total[0]} contacts of finished motions {total[1]} slide by 1 cm or more")


if __name__ == "__main__":
    main()
