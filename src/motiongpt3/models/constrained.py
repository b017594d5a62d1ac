"""Drawing with constraints: of a few seeds the motion that fits best, brought nearer in the latents, then exactly.

1. Candidates. The words are read once; some seeds are drawn together. The one whose steps suit the path's length and
   whose poses are nearest to what is asked for is taken. The first has the seed itself.
2. Bending. It is put on the path: `control.bend`.
3. Latents. What is left of poses and targets is made smaller where motions are made: the decoder's latents are moved
   along its gradient (L-BFGS), held back by their distance from what was drawn.
4. The exact fit closes the rest: `control.exact`.

What each of these is worth stands in docs/experiments.md, "Constraints".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from motiongpt3.control.bend import Anchors, Bent, anchors, bend, mismatch
from motiongpt3.control.constraints import AnyConstraint, Constraint, last_frame, resolve
from motiongpt3.control.exact import errors, fit, put
from motiongpt3.control.report import ConstrainedMotion, report
from motiongpt3.models.network import Network
from motiongpt3.models.request import DrawOptions, MotionRequest
from motiongpt3.motion.foot_lock import lock_feet
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import rotate
from motiongpt3.motion.skeleton import Array

CANDIDATES = 8
"""Seeds that are drawn: they share the reading of the words, which is most of the work."""
_SEED_STEP = 2**40  # between the seeds of candidates: so that none is another sample's
_SLIDE_COST = 0.3  # metres off that a metre per second of sliding feet is as bad as; by eye
_NEAR = 0.01  # metres: what a target may be off before it counts as much as one unit of a latent ("Constraints")
_ROUNDS = 28  # of L-BFGS: more cost more than they bring ("Constraints")


class Targets(NamedTuple):
    """Where joints of a drawn motion should be, before it is bent.

    Attributes:
        frames: (P,) of the drawn motion.
        joints: (P,) which.
        places: (P, 3) metres.
        weights: (P, 3) 0 where free; those of one frame of a constraint are 1 together in each coordinate.
        along: whether the pelvis's own way along the floor counts, which a path would replace.
    """

    frames: Tensor
    joints: Tensor
    places: Tensor
    weights: Tensor
    along: bool


def draw(
    model: Network,
    request: MotionRequest,
    constraints: Sequence[AnyConstraint],
    options: DrawOptions,
    best_effort: bool = False,
) -> ConstrainedMotion:
    """One motion that meets constraints, with its report.

    Without a duration the model decides, but the motion is long enough for every constraint.

    Raises:
        MotionGPT3Error: see `control.constraints.resolve` and `control.exact.fit`.
    """
    fps, needed = model.config.fps, last_frame(constraints, model.config.fps) + 1
    seeds = [request.seed + number * _SEED_STEP for number in range(CANDIDATES)]
    hidden, frames = model.encode_prompts([request])
    if request.frames is None and frames[0] < needed <= model.config.vae.max_frames:
        request = request._replace(frames=needed)
        hidden, frames = model.encode_prompts([request])
    asked, problems = resolve(constraints, frames[0], fps, best_effort=best_effort)
    length = torch.tensor([max(frames[0], model.least_frames)], device=hidden.device)
    latents = model.draw_latents(hidden.expand(len(seeds), -1, -1), seeds, options)
    drawn = model.joints(latents, length.expand(len(seeds))).cpu().numpy()[:, : frames[0]]
    motions = [Motion(joints, fps, request.prompt, f"seed {request.seed}") for joints in drawn]
    to = anchors(asked)
    costs = [_cost(motion, asked, to) for motion in motions]
    best = costs.index(min(costs))
    chosen = motions[best]
    targets = _targets(chosen.joints, bend(chosen.joints, to, fps), asked, len(to.frames) > 1)
    if len(targets.frames):
        nearer = _nearer(model, latents[best : best + 1], length, targets)
        moved = chosen.replace(joints=nearer[: frames[0]])
        chosen = moved if _cost(moved, asked, to) < costs[best] else chosen
    bent = lock_feet(chosen.replace(joints=bend(chosen.joints, to, fps).joints))
    fitted, settled, misses = fit(bent, asked, best_effort)
    return ConstrainedMotion(fitted, report(motions[0], bent, fitted, asked, settled, [*problems, *misses]))


def _cost(motion: Motion, asked: Sequence[Constraint], to: Anchors) -> float:
    """Metres that poses and targets are off on average, once the motion is bent, and what its feet would slide."""
    bent = motion.replace(joints=bend(motion.joints, to, motion.fps).joints)
    off = [float(errors(one, bent)[0].mean()) for one in asked if one.kind != "root"]
    return float(np.mean(off or [0.0])) + _SLIDE_COST * mismatch(motion.joints, to, motion.fps)


def _targets(drawn: Array, bent: Bent, asked: Sequence[Constraint], on_path: bool) -> Targets:
    """What constraints want of the motion before it is bent: poses and targets, not ways."""
    frames, joints, places, weights = [], [], [], []
    for one in asked:
        if one.kind not in ("keyframe", "effector"):
            continue
        for number, frame in enumerate(one.frames.tolist()):
            at = round(bent.at[frame])
            wanted = one.positions[number]
            if not one.placed:
                wanted = put(one, bent.joints)[number]
            there = rotate(wanted - bent.joints[frame, 0], -bent.turn[frame]) + drawn[at, 0]
            for joint, place, free in zip(one.joints, there, np.isnan(wanted), strict=True):
                frames.append(at)
                joints.append(joint)
                places.append(np.where(free, 0.0, place))
                weights.append(np.where(free, 0.0, 1.0) / len(one.joints))
    return Targets(
        torch.tensor(frames, dtype=torch.long),
        torch.tensor(joints, dtype=torch.long),
        torch.tensor(np.array(places).reshape(-1, 3), dtype=torch.float32),
        torch.tensor(np.array(weights).reshape(-1, 3), dtype=torch.float32),
        not on_path,
    )


def _nearer(model: Network, latents: Tensor, length: Tensor, targets: Targets) -> Array:
    """(T, 22, 3) joints of latents (1, N, D) that are nearer to their targets, as far as the latents stay near."""
    with torch.inference_mode(False), torch.enable_grad():
        device = latents.device
        start, length = latents.clone(), length.clone()
        moved = start.clone().requires_grad_(True)
        frames, joints, places, weights = (part.to(device).clone() for part in targets[:4])
        floor = torch.tensor([1.0, 0.0, 1.0], device=device)
        search = torch.optim.LBFGS([moved], max_iter=_ROUNDS, history_size=_ROUNDS, line_search_fn="strong_wolfe")
        begin = model.joints(start, length)[0].detach()

        def loss() -> Tensor:
            search.zero_grad()
            found = model.joints(moved, length)[0]
            at = found[frames, joints]
            if not targets.along:
                at = at - (found[frames, 0] - begin[frames, 0]) * floor
            total = (weights * ((at - places) / _NEAR) ** 2).sum() + (moved - start).square().sum()
            [moved.grad] = torch.autograd.grad(total, [moved])
            return total

        search.step(loss)
        with torch.no_grad():
            found: Array = model.joints(moved, length)[0].cpu().numpy()
    return found
