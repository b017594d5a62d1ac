"""How smooth the seams of `predict` and `inbetween` are: python benchmarks/seams.py --data data/mocap

Takes test clips of 3.2 to 9.8 s, gives the first 1.5 s (or the first and last third of shorter ones) and lets the rest
be drawn. Against the bar: at each seam the largest third difference of any joint within 3 frames (m/frame^3), and the
foot skate (cm/s, `quality.skate_speed`) of the 3 frames on either side; the bar is the 95th percentile of the same over
4,000 random frames of all test clips. Also the skate of the second of new frames beside the seam.

The windows are drawn by the model ("model"), or are reconstructions of the true clip by the motion VAE whose latents
are mixed with noise ("vae"): z' = sqrt(1 - a^2) z + a noise. "recorded" is the clip itself, for comparison.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from motiongpt3 import Motion, MotionGPT3
from motiongpt3.data.clips import PackedClips
from motiongpt3.models.completion import SLACK, Propose, inbetween, predict
from motiongpt3.models.request import DrawOptions
from motiongpt3.motion.features import canonicalise, joints_to_features
from motiongpt3.motion.quality import seam_jerk, skate_speed


def at_seam(motion: Motion, seam: int) -> tuple[float, float]:
    """Third difference and skate near a seam."""
    return seam_jerk(motion, [seam], within=3) / motion.fps**3, skate_speed(motion[max(seam - 3, 0) : seam + 4])


def bars(data: PackedClips, points: int = 4000) -> tuple[list[float], float]:
    """95th percentiles: of `at_seam`, and of the skate of one second."""
    generator = np.random.default_rng(1)
    clips = [index for index in data.split("test") if data.clips[index].frames >= 32]
    frames = np.array([data.clips[index].frames for index in clips], dtype=np.float64)
    rows, seconds = [], []
    for index in generator.choice(clips, points, p=frames / frames.sum()):
        motion = Motion(data.clip_joints(index), data.fps)
        at = int(generator.integers(6, len(motion) - 6))
        rows.append(at_seam(motion, at))
        seconds.append(skate_speed(motion[at : at + 20]))
    return np.percentile(rows, 95, axis=0).tolist(), float(np.percentile(seconds, 95))


def reconstructions(model: MotionGPT3, joints: np.ndarray, noise: float, seed: int) -> Propose:
    """Windows that are the VAE's reconstruction of the true clip, its latents mixed with noise."""

    @torch.inference_mode()
    def propose(before: Motion | None, after: Motion | None, frames: int, prompt: str | None, number: int) -> Motion:
        vae, length = model.vae, torch.tensor([frames])
        features = vae.normalise(joints_to_features(canonicalise(torch.from_numpy(joints[:frames].copy()))))[None]
        latents = vae.normalise_latents(vae.encode(features, length)[0])
        drawn = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
        mixed = (1 - noise**2) ** 0.5 * latents + noise * drawn
        return Motion(vae.decode_joints(mixed, length)[0].numpy(), model.config.fps)

    return propose


def main() -> None:
    """Print one line per task and kind of window."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/mocap")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--noise", type=float, default=0.3, help="a, of the reconstructions")
    options = parser.parse_args()
    data, model = PackedClips.open(options.data), MotionGPT3.from_pretrained()
    (third, skate), second = bars(data)
    print(f"95th percentiles: third difference {third:.3f} m/frame^3, skate {skate:.1f} cm/s, 1 s {second:.1f} cm/s")
    clips = [index for index in data.split("test") if 64 <= data.clips[index].frames <= 196]
    chosen = np.random.default_rng(0).permutation(clips)[: options.cases]
    for task in ("predict", "inbetween start", "inbetween end"):
        for kind in ("recorded", "vae", "model"):
            rows, exact = [], True
            for index in chosen:
                joints = np.array(data.clip_joints(index))
                given = min(30, len(joints) // 3)
                head, tail = Motion(joints[:given]), Motion(joints[-given:])
                draw = reconstructions(model, joints, options.noise, int(index)) if kind == "vae" else None
                words = data.clips[index].captions[0] if kind == "model" else None
                if kind == "recorded":
                    whole = Motion(joints)
                elif task == "predict":
                    seconds = (len(joints) - given - SLACK) / data.fps
                    whole = predict(model, head, seconds, words, DrawOptions(int(index)), propose=draw)
                else:
                    seconds = (len(joints) - 2 * given) / data.fps
                    whole = inbetween(model, head, tail, seconds, words, DrawOptions(int(index)), propose=draw)
                    exact &= np.array_equal(whole.joints[-given:], tail.joints)
                exact &= np.array_equal(whole.joints[:given], head.joints)
                seam = len(whole) - given if task == "inbetween end" else given
                beside = whole[max(seam - 20, given) : seam] if task == "inbetween end" else whole[seam : seam + 20]
                rows.append((*at_seam(whole, seam), skate_speed(beside)))
            ok = 100 * np.mean(np.array(rows) <= [third, skate, second], axis=0)
            middle = np.median(rows, axis=0)
            print(
                f"{task:<16}{kind:<9} within the bar: third difference {ok[0]:.0f} %, skate {ok[1]:.0f} %, "
                f"1 s {ok[2]:.0f} %; medians {middle[0]:.3f}, {middle[1]:.1f}, {middle[2]:.1f}; "
                f"given frames {'exact' if exact else 'CHANGED'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
