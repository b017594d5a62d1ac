"""A motion in one picture: a strip of poses on a floor, with times, caption, paths and a plan seen from above."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import Float32, Float64
from motiongpt3.render.canvas import (
    FAINT,
    INK,
    PAPER,
    PATH,
    RULE,
    Body,
    Canvas,
    Person,
    Pixels,
    clean_text,
    font,
    legend,
    on_floor,
    wrap,
)
from motiongpt3.render.figure import LEFT, RIGHT, fit_camera, front
from motiongpt3.serialization import atomic_path

WIDTH, SCENE_HEIGHT, HEAD_HEIGHT = 1600, 520, 132
"""Pixels: as wide as eight people side by side need, and a header of two lines of caption; chosen by eye."""


def write(motion: Motion, path: str | Path, body: Body = "capsules") -> None:
    """Draw a motion as a .png strip of up to eight poses, evenly spaced in time.

    Someone who travels is drawn along their path; otherwise the poses stand side by side, in the order of time, and
    only the plan at the upper right shows the true positions. The arrow on the floor is where the pelvis faces; the
    lines in the air are where the wrists went since half way from the pose before.

    Raises:
        MotionGPT3Error: the folder cannot be written.
    """
    picture = strip(motion, body=body)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def strip(motion: Motion, poses: int = 8, body: Body = "capsules") -> Pixels:
    """The picture that `write` saves, (652, 1600, 3) uint8."""
    frames = np.round(np.linspace(0, len(motion) - 1, min(poses, len(motion)))).astype(int)
    person = Person(motion, body)
    azimuth, moved = _places(motion, frames, person)
    points = person.capsules.points(motion.joints[frames] + moved[:, None])
    frame = (0.035 * WIDTH, 0.05 * SCENE_HEIGHT, 0.965 * WIDTH, 0.87 * SCENE_HEIGHT)
    focal, nearest = 4.2 * SCENE_HEIGHT, 8.5 * person.scale
    camera = fit_camera(person.outline(points), azimuth, np.deg2rad(13), focal, frame, nearest)
    canvas = Canvas(WIDTH, SCENE_HEIGHT)
    canvas.clear(person.floor(camera, WIDTH, SCENE_HEIGHT).draw(camera.target[0], camera.target[2]))
    if not moved.any():
        canvas.line(camera, person.ground, 2.5, PATH, 0.7)
    for pose, at in enumerate(frames):
        person.draw_shadow(canvas, camera, at, points[pose], moved[pose])
    middles = (frames[1:] + frames[:-1]) // 2
    for pose, (start, end) in enumerate(zip([0, *middles], [*middles, len(motion) - 1], strict=True)):
        for name, colour in (("l_wrist", LEFT), ("r_wrist", RIGHT)):
            if name in motion.skeleton.names and end > start:
                wrist = motion.joints[start : end + 1, motion.skeleton.index(name)] + moved[pose]
                canvas.line(camera, wrist, 2.0, colour, 0.4)
    for pose, at in enumerate(frames):
        person.draw(canvas, camera, at, points[pose], moved[pose])
    picture = Image.new("RGB", (WIDTH, HEAD_HEIGHT + SCENE_HEIGHT), PAPER)
    picture.paste(Image.fromarray(canvas.pixels()), (0, HEAD_HEIGHT))
    pen, size = ImageDraw.Draw(picture), 18
    lowest = float(camera.project(on_floor(points, person.level))[..., 1].max())
    for x, at in zip(camera.project(points[:, 0])[:, 0], frames, strict=True):
        text = f"{at / motion.fps:.2f} s"
        place = x - font(size).getlength(text) / 2, HEAD_HEIGHT + min(lowest + 30, SCENE_HEIGHT - 28)
        pen.text(place, text, fill=INK, font=font(size))
    _head(picture, motion, person.facing)
    _plan(picture, motion, frames, person.facing)
    return np.asarray(picture)


def _places(motion: Motion, frames: NDArray[np.int64], person: Person) -> tuple[float, Float32]:
    """The camera's azimuth, and how far each pose is moved from where it was, (N, 3); 0 along a path."""
    root = motion.joints[frames, 0].astype(np.float64) * [1, 0, 1]
    face = front(motion.joints, motion.skeleton)
    net = root[-1] - root[0]
    if 2.2 * person.scale < float(np.linalg.norm(net)) < 11 * person.scale:
        # Look across the path, from the side that shows more of the front.
        across = float(np.arctan2(net[0], net[2]))
        sides = [across - np.deg2rad(62), across + np.deg2rad(62)]
        side = max(sides, key=lambda angle: float(np.cos(angle - face) - 0.1 * (angle > across)))
        steps = np.diff(root @ [np.cos(side), 0, -np.sin(side)])
        if (np.abs(steps) > 0.28 * person.scale).all() and len({*np.sign(steps)}) == 1:
            return side, np.zeros((len(frames), 3), dtype=np.float32)
    azimuth = face - np.deg2rad(40)
    right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
    spread = (person.capsules.points(motion.joints[frames]) - root[:, None]) @ right
    low, high = spread.min(axis=1), spread.max(axis=1)
    gaps = np.maximum(high[:-1] - low[1:] + 0.22 * person.scale, 0.62 * person.scale)
    at = np.concatenate([[0.0], np.cumsum(gaps)])
    return azimuth, (at[:, None] * right - root).astype(np.float32)


def _head(picture: Image.Image, motion: Motion, ways: Float64) -> None:
    """Caption, numbers and the legend of colours, above the scene."""
    pen, pad = ImageDraw.Draw(picture), 28
    pen.rectangle([0, 0, WIDTH, HEAD_HEIGHT - 1], fill=(255, 255, 255))
    pen.line([(0, HEAD_HEIGHT - 1), (WIDTH, HEAD_HEIGHT - 1)], RULE, 1)
    words = clean_text(motion.caption or "") or clean_text(motion.name or "", 80)
    for row, line in enumerate(wrap(words, 26, WIDTH - HEAD_HEIGHT - 3 * pad - 140, 2)):
        pen.text((pad, 18 + 32 * row), line, fill=INK, font=font(26))
    root = motion.joints[:, 0, [0, 2]].astype(np.float64)
    steps = np.linalg.norm(np.diff(root, axis=0), axis=-1)
    turn = np.rad2deg(np.unwrap(np.arctan2(ways[:, 0], ways[:, 1])))
    height = motion.joints[:, 0, 1]
    turned = round(float(turn[-1] - turn[0]))
    facts = [
        f"{motion.seconds:.2f} s, {len(motion)} frames at {motion.fps:g} fps",
        f"path {steps.sum():.2f} m, moved {np.linalg.norm(root[-1] - root[0]):.2f} m",
        f"turned {abs(turned)}° {'left' if turned > 0 else 'right'}" if turned else "turned 0°",
        f"pelvis {height.min():.2f} to {height.max():.2f} m",
    ]
    x = float(pad)
    for fact in facts:
        pen.text((x, HEAD_HEIGHT - 34), fact, fill=FAINT, font=font(17))
        x += font(17).getlength(fact) + 30
    legend(pen, round(x), HEAD_HEIGHT - 34, 17)


def _plan(picture: Image.Image, motion: Motion, frames: NDArray[np.int64], ways: Float64) -> None:
    """The path seen from above, first facing up and left to the left, with the facing at each pose."""
    size, grow = HEAD_HEIGHT - 20, 4
    image = Image.new("RGB", (size * grow, size * grow), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    root = motion.joints[:, 0, [0, 2]].astype(np.float64)
    ahead = ways[0]
    turn = np.array([[-ahead[1], ahead[0]], [-ahead[0], -ahead[1]]])
    flat, heads = (root - root[0]) @ turn.T, ways @ turn.T
    middle = (flat.min(axis=0) + flat.max(axis=0)) / 2
    room = max(2.0, 1.35 * float(np.ptp(flat, axis=0).max()))
    place = ((flat - middle) / room + 0.5) * size * grow
    edge = size * grow - 2
    pen.rounded_rectangle([1, 1, edge, edge], 6 * grow, PAPER, RULE, grow)
    if len(place) > 1:
        pen.line([tuple(p) for p in place.tolist()], PATH, 2 * grow, "curve")
    for frame in frames:
        tip, side = 9 * grow * heads[frame], 4.5 * grow * np.array([-heads[frame, 1], heads[frame, 0]])
        corners = [place[frame] + tip, place[frame] + side, place[frame] - 0.3 * tip, place[frame] - side]
        pen.polygon([tuple(c) for c in np.array(corners).tolist()], PATH if frame else INK)
    small = image.reduce(grow)
    left = WIDTH - size - 28
    picture.paste(small, (left, 10))
    pen = ImageDraw.Draw(picture)
    text = f"{room:.1f} m"
    pen.text((left - font(15).getlength(text) - 8, 10 + size - 18), text, fill=FAINT, font=font(15))
    pen.text((left - font(15).getlength("from above") - 8, 12), "from above", fill=FAINT, font=font(15))
