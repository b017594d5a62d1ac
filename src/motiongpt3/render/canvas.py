"""Drawing a motion without a graphics card: a shaded figure on a checkered floor, with its caption.

Every capsule is shaded pixel by pixel with numpy (its projection is a tapered stroke, its normal that of a ball
rolled along it) into a colour and a depth buffer, edges anti-aliased by coverage; the mannequin is drawn triangle by
triangle. Lines and words are Pillow's. A renderer of its own, because those of the libraries (pyrender, matplotlib)
need a graphics driver or take seconds for a frame. Sizes, colours and light are chosen by eye.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import ceil
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion, require_humanml3d
from motiongpt3.motion.signals import averaged, gaussian, spans
from motiongpt3.motion.skeleton import Float32, Float64
from motiongpt3.render.figure import (
    FINE,
    LEFT,
    RIGHT,
    Camera,
    Capsules,
    Colour,
    Skin,
    capsules_of,
    facing,
    fit_camera,
    fragments,
    front,
)

Pixels = NDArray[np.uint8]
Body = Literal["capsules", "mannequin"]

INK: Colour = (38, 44, 56)
FAINT: Colour = (128, 136, 150)
PAPER: Colour = (247, 248, 250)
RULE: Colour = (222, 226, 232)
PATH: Colour = (112, 84, 190)
_LIGHT = np.array([-0.45, -0.72, 0.53], dtype=np.float32)
"""Where the light comes from: right, down and towards the camera as it sees them."""
_SHADE = np.array([0.36, 0.38, 0.43], dtype=np.float32)
"""What is left of red, green and blue in full shadow."""
SOLE = 0.03
"""Metres from a toe joint down to the ground under the shoe: HumanML3D puts toe joints at height 0."""


def clean_text(text: str, limit: int = 2000) -> str:
    """One line of at most `limit` characters without control characters; surrogates become question marks."""
    text = text[: 4 * limit].encode("utf-8", "replace").decode("utf-8")
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in text)
    return " ".join(text.split())[:limit]


def wrap(text: str, size: int, room: int, rows: int) -> list[str]:
    """Break a text into at most `rows` lines no wider than `room` pixels; what does not fit ends in an ellipsis."""
    measure = font(size).getlength
    lines: list[str] = []
    line = ""
    for word in text.split():
        while word:
            joined = f"{line} {word}" if line else word
            if measure(joined) <= room:
                line, word = joined, ""
            elif line:
                lines.append(line)
                line = ""
            else:
                fits = max(1, bisect_right(range(1, len(word) + 1), room, key=lambda n: ceil(measure(word[:n]))))
                lines.append(word[:fits])
                word = word[fits:]
        if len(lines) > rows:
            break
    lines += [line] if line else []
    if len(lines) > rows:
        last = lines[rows - 1]
        while last and measure(last.rstrip() + "...") > room:
            last = last[:-1]
        lines = [*lines[: rows - 1], last.rstrip() + "..."]
    return lines


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at a size in pixels."""
    return ImageFont.load_default(max(8, size))


def legend(pen: ImageDraw.ImageDraw, x: int, y: int, size: int) -> None:
    """The colours of left and right, at pixel x, y."""
    for word, colour in (("left", LEFT), ("right", RIGHT)):
        pen.rounded_rectangle([x, y + 0.35 * size, x + 0.7 * size, y + 1.05 * size], 0.15 * size, colour)
        pen.text((x + size, y), word, fill=FAINT, font=font(size))
        x += round(font(size).getlength(word)) + 2 * size


class Canvas:
    """A picture being drawn: colour (H, W, 3) 0 to 255 and depth (H, W) in metres, both float32."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.colour: Float32 = np.empty((height, width, 3), dtype=np.float32)
        self.depth: Float32 = np.empty((height, width), dtype=np.float32)
        self.clear()

    def clear(self, background: Float32 | None = None) -> None:
        """Start again from a background (H, W, 3), paper if None."""
        self.colour[:] = PAPER if background is None else background
        self.depth.fill(np.inf)

    def capsules(self, camera: Camera, body: Capsules, points: Float32) -> None:
        """Draw a body whose points are (P, 3), farthest capsule first."""
        seen = camera.project(points)
        start, end = seen[body.start], seen[body.end]
        per_metre = camera.focal / np.stack([start[:, 2], end[:, 2]], axis=1)
        middle = camera.project(points[:1])[0, 2]
        for bone in np.argsort(-(start[:, 2] + end[:, 2])):
            away = (start[bone, 2] + end[bone, 2]) / 2 - middle
            dim = 1.0 - 0.22 * float(np.clip(away / body.scale / 0.5, -0.3, 1.0))
            self._capsule(start[bone], end[bone], body.radii[bone], per_metre[bone], body.colours[bone] * dim)

    def _capsule(self, a: Float32, b: Float32, radii: Float32, per_metre: Float32, colour: Float32) -> None:
        wide = radii * per_metre
        box = self._box(a, b, float(wide.max()) + 1.0)
        if box is None:
            return
        rows, columns, x, y = _pixels(box, a)
        dx, dy, dz = b[0] - a[0], b[1] - a[1], (b[2] - a[2]) * per_metre.mean()
        length = np.sqrt(dx * dx + dy * dy) + np.float32(1e-3)
        # The outline of a capsule is a stroke: each pixel's nearest point of the axis says how much it is covered.
        forth = (x * dx + y * dy) / length
        aside = np.maximum(x * x + y * y - forth * forth, 0.0)
        nearest = np.clip(forth / length, 0.0, 1.0)
        radius = wide[0] + nearest * (wide[1] - wide[0])
        beyond = forth - nearest * length
        cover = np.clip(radius - np.sqrt(aside + beyond * beyond) + 0.5, 0.0, 1.0)
        # The point that is seen lies on the ball around another point of the axis, where the axis leans in depth:
        # least z over the axis of z(t) - sqrt(r^2 - aside - (forth - t length)^2), by setting its derivative to zero.
        lean = dz / np.sqrt(length * length + dz * dz)
        along = np.clip((forth - lean * np.sqrt(np.maximum(radius * radius - aside, 0.0))) / length, 0.0, 1.0)
        across_x, across_y = x - along * dx, y - along * dy
        radius = np.maximum(wide[0] + along * (wide[1] - wide[0]), 1e-3)
        bulge = np.sqrt(np.maximum(1.0 - (across_x * across_x + across_y * across_y) / (radius * radius), 0.0))
        depth = a[2] + along * (b[2] - a[2]) - bulge * (radii[0] + along * (radii[1] - radii[0]))
        buffer = self.depth[rows, columns]
        cover *= depth < buffer
        lit = (across_x * _LIGHT[0] + across_y * _LIGHT[1]) / radius + bulge * _LIGHT[2]
        paint = _lit(colour, lit, bulge)
        region = self.colour[rows, columns]
        region += cover[..., None] * (paint - region)
        np.copyto(buffer, depth, where=cover > 0.5)

    def skin(self, camera: Camera, skin: Skin, frame: int, shift: Float32 | float = 0.0) -> None:
        """Draw the mannequin of one frame, moved by (3,) `shift` metres."""
        vertices, normals = skin.surface(frame)
        vertices = vertices + shift
        seen = camera.project(vertices)
        box = self._box(seen[:, :2].min(axis=0), seen[:, :2].max(axis=0), 1.0)
        if box is None:
            return
        left, top, right, bottom = box
        number, owner, share, depth = fragments(camera, vertices, skin.triangles, box)
        corners = skin.triangles[owner]
        normal = np.einsum("sk,ski->si", share, (normals @ camera.axes.T)[corners])
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
        bulge = np.maximum(-normal[:, 2], 0.0)
        lit = normal[:, 0] * _LIGHT[0] + normal[:, 1] * _LIGHT[1] + bulge * _LIGHT[2]
        colour = np.einsum("sk,ski->si", share, skin.colours[corners])
        rows, columns = (bottom - top) * FINE, (right - left) * FINE
        paint = np.zeros((rows * columns, 4), dtype=np.float32)
        far = np.full(rows * columns, np.inf, dtype=np.float32)
        paint[number, :3] = _lit(colour, lit, bulge)
        paint[number, 3] = 1.0
        far[number] = depth
        behind = self.depth[top:bottom, left:right].repeat(FINE, 0).repeat(FINE, 1).ravel()
        paint[far >= behind] = 0.0
        blocks = paint.reshape(bottom - top, FINE, right - left, FINE, 4).mean(axis=(1, 3))
        region = self.colour[top:bottom, left:right]
        region += blocks[..., :3] - blocks[..., 3:] * region
        near = far.reshape(bottom - top, FINE, right - left, FINE).min(axis=(1, 3))
        buffer = self.depth[top:bottom, left:right]
        np.copyto(buffer, near, where=(blocks[..., 3] > 0.5) & (near < buffer))

    def shadow(self, camera: Camera, body: Capsules, points: Float32, level: float) -> None:
        """Darken the floor y = `level` under a body: sharp where it touches, soft and weak where it is high."""
        seen = camera.project(on_floor(points, level))
        start, end = seen[body.start], seen[body.end]
        above = (points[body.start, 1] + points[body.end, 1]) / 2 - level
        height = np.maximum(above / body.scale - SOLE, 0.0)
        reach = (body.radii.mean(axis=1) * 1.25 + (0.012 + 0.17 * np.minimum(height, 1.2)) * body.scale) * 1.4
        dark = 0.035 + 0.26 * np.exp(-height / 0.10)
        eye = camera.height_above(level)
        boxes: list[tuple[int, int, int, int]] = []
        passed = np.ones((self.height, self.width), dtype=np.float32)
        for bone in range(len(start)):
            depth = (start[bone, 2] + end[bone, 2]) / 2
            squash = float(np.clip(eye / depth, 0.08, 1.0))
            radius = reach[bone] * camera.focal / depth
            box = self._box(start[bone], end[bone], float(radius))
            if box is None or depth <= camera.near * 1.01:
                continue
            rows, columns, x, y = _pixels(box, start[bone], squash)
            dx, dy = end[bone, :2] - start[bone, :2]
            dy = dy / squash
            along = np.clip((x * dx + y * dy) / (dx * dx + dy * dy + np.float32(1e-6)), 0.0, 1.0)
            away = np.square(x - along * dx) + np.square(y - along * dy)
            near = np.maximum(1.0 - away / (radius * radius), 0.0)
            passed[rows, columns] *= 1.0 - dark[bone] * near * near
            boxes.append(box)
        if boxes:
            left, top = np.min(boxes, axis=0)[:2]
            right, bottom = np.max(boxes, axis=0)[2:]
            part = passed[top:bottom, left:right, None]
            self.colour[top:bottom, left:right] *= part + (1.0 - part) * _SHADE

    def line(self, camera: Camera, points: Float32, width: float, colour: Colour, alpha: float) -> None:
        """A smooth line through (N, 3) points in metres, `width` in pixels."""
        seen = camera.project(points)
        visible = camera.is_before(seen) & (np.abs(seen[:, :2]) < 4e3).all(axis=1)
        strokes = [seen[start:stop, :2] for start, stop in spans(visible) if stop - start > 1]
        if strokes:
            self._paint(strokes, width, colour, alpha)

    def arrow(self, camera: Camera, at: Float32, way: Float64, size: float, colour: Colour, alpha: float) -> None:
        """A flat arrow head on the floor ahead of (3,) `at`, pointing along x, z `way`; `size` in metres."""
        ahead = np.array([way[0], 0.0, way[1]], dtype=np.float32)
        at = at + size * ahead
        side = np.array([-way[1], 0.0, way[0]], dtype=np.float32)
        corners = np.stack([at + 0.75 * size * ahead, at + 0.36 * size * side, at - 0.36 * size * side])
        seen = camera.project(corners)
        if camera.is_before(seen).all() and np.abs(seen[:, :2]).max() < 4e3:
            self._paint([seen[:, :2]], 0.0, colour, alpha)

    def _paint(self, strokes: Sequence[Float32], width: float, colour: Colour, alpha: float) -> None:
        """Strokes in pixels, filled if without width; at once and twice as large, so that crossings do not darken."""
        every = np.concatenate(strokes)
        box = self._box(every.min(axis=0), every.max(axis=0), width + 2)
        if box is None:
            return
        left, top, right, bottom = box
        mask = Image.new("L", (2 * (right - left), 2 * (bottom - top)))
        pen = ImageDraw.Draw(mask)
        origin = np.array([left, top], dtype=np.float32)
        for stroke in strokes:
            points = [tuple(point) for point in (2 * (stroke - origin)).tolist()]
            if width:
                pen.line(points, 255, max(1, round(2 * width)), "curve")
            else:
                pen.polygon(points, 255)
        cover = np.asarray(mask.reduce(2), dtype=np.float32)[..., None] * (alpha / 255.0)
        region = self.colour[top:bottom, left:right]
        region += cover * (np.array(colour, dtype=np.float32) - region)

    def _box(self, a: Float32, b: Float32, margin: float) -> tuple[int, int, int, int] | None:
        low, high = np.minimum(a[:2], b[:2]) - margin, np.maximum(a[:2], b[:2]) + margin + 1
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return None
        left, top = max(0, int(max(low[0], -1))), max(0, int(max(low[1], -1)))
        right, bottom = int(min(high[0], self.width)), int(min(high[1], self.height))
        return (left, top, right, bottom) if right > left and bottom > top else None

    def pixels(self) -> Pixels:
        """The picture as (H, W, 3) uint8."""
        return np.rint(np.clip(self.colour, 0, 255)).astype(np.uint8)


def _lit(colour: Float32, lit: Float32, bulge: Float32) -> Float32:
    """(..., 3) a colour in the light: `lit` is the cosine to the light, `bulge` that to the camera."""
    half = 0.5 + 0.5 * lit
    shade = 0.46 + 0.66 * half * half + 0.10 * bulge
    shine = 46.0 * np.clip(lit, 0.0, 1.0) ** 12
    return np.asarray(np.minimum(shade[..., None] * colour + shine[..., None], 255.0), dtype=np.float32)


def _pixels(
    box: tuple[int, int, int, int], origin: Float32, squash: float = 1.0
) -> tuple[slice, slice, Float32, Float32]:
    """The rows and columns of a box, and where its pixels' middles lie from `origin`, y over `squash`."""
    left, top, right, bottom = box
    x = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5) - origin[0]
    y = (np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5) - origin[1]) / np.float32(squash)
    return slice(top, bottom), slice(left, right), x, y


class Floor:
    """A checkered floor seen by one camera that may move along it but not turn; it fades into the paper far away."""

    def __init__(self, camera: Camera, width: int, height: int, level: float, tile: float) -> None:
        self._x, self._z, away = camera.floor(width, height, level)
        self._period = 2.0 * tile
        right, _, ahead = camera.axes
        eye = camera.height_above(level)
        with np.errstate(invalid="ignore"):
            across = away / camera.focal  # metres of floor a pixel covers across, and along the view
            deep = across * np.maximum(away / max(eye, 1e-6), 1.0)
        blur = [
            np.minimum(np.abs(right[axis]) * across + np.abs(ahead[axis]) * deep, 1e6) / self._period for axis in (0, 2)
        ]
        self._sharp_x, self._sharp_z = (np.float32(1.0) / np.maximum(b, 1e-5).astype(np.float32) for b in blur)
        middle = np.sqrt(np.square(self._x) + np.square(self._z)) / camera.distance
        fade = np.where(np.isfinite(away), np.exp(-np.square(middle / 1.25)), 0.0).astype(np.float32)
        paper, dark, light = (np.array(c, dtype=np.float32) for c in (PAPER, (225, 229, 235), (240, 242, 245)))
        self._base = paper + fade[..., None] * ((dark + light) / 2 - paper)
        self._swing = 2.0 * fade[..., None] * (light - dark)

    def draw(self, x: float, z: float) -> Float32:
        """(H, W, 3) the floor with the camera's target above floor point x, z, on paper."""
        waves = []
        for grid, sharp, at in ((self._x, self._sharp_x, x), (self._z, self._sharp_z, z)):
            turn = (grid + np.float32(at % self._period)) * np.float32(1.0 / self._period)
            turn -= np.floor(turn)
            waves.append(np.clip((np.abs(turn - np.float32(0.5)) - np.float32(0.25)) * sharp, -0.5, 0.5))
        picture = self._swing * (waves[0] * waves[1])[..., None]
        picture += self._base
        return np.asarray(picture, dtype=np.float32)


class Person:
    """Someone who plays a motion, ready to be drawn on a floor.

    Attributes:
        capsules: their body of capsules, which throws the shadow of the mannequin, too.
        skin: the mannequin, or None where the capsules are drawn.
        scale: their size, 1 for a person of ordinary size.
        level: height of the floor under their soles.
        ground: (T, 3) where the pelvis is above, on the floor.
        facing: (T, 2) unit x and z of the way they face.
    """

    def __init__(self, motion: Motion, body: Body) -> None:
        """MotionGPT3Error: another body, or a mannequin for another skeleton than HumanML3D's."""
        if body not in get_args(Body):
            raise MotionGPT3Error(f"a body is drawn as {' or '.join(get_args(Body))}, not {body!r}")
        if body == "mannequin":
            require_humanml3d(motion, "mannequin")
        joints = motion.joints
        self.capsules = capsules_of(motion.skeleton, joints)
        self.skin = Skin(motion) if body == "mannequin" else None
        self.scale = self.capsules.scale
        lowest = float(joints[..., 1].min())
        floor = 0.0 if abs(lowest) < 0.5 else lowest  # motions are stored on it, unless they are half a metre off
        self.level = floor - (0.0 if self.skin else SOLE * self.scale)
        self.ground = on_floor(joints[:, 0], self.level)
        self.facing = facing(joints, motion.skeleton)

    def outline(self, points: Float32) -> Float64:
        """(N, 4 P, 3) what a camera has to see of a body's (N, P, 3) points: a margin, and the shadow."""
        seen = np.concatenate([points, on_floor(points, self.level)], axis=1).astype(np.float64)
        margin = np.array([0, 0.1 * self.scale, 0])
        return np.concatenate([seen + margin, seen - margin], axis=1)

    def floor(self, camera: Camera, width: int, height: int) -> Floor:
        """The floor with tiles of half a metre, or of half a giant's or a dwarf's."""
        return Floor(camera, width, height, self.level, 0.5 * (self.scale if not 0.5 < self.scale < 2 else 1.0))

    def draw_shadow(
        self, canvas: Canvas, camera: Camera, frame: int, points: Float32, shift: Float32 | float = 0.0
    ) -> None:
        """Draw on the floor the shadow of (P, 3) points and an arrow where the body faces, moved by `shift`."""
        canvas.shadow(camera, self.capsules, points, self.level)
        canvas.arrow(camera, self.ground[frame] + shift, self.facing[frame], 0.34 * self.scale, PATH, 0.8)

    def draw(self, canvas: Canvas, camera: Camera, frame: int, points: Float32, shift: Float32 | float = 0.0) -> None:
        """Draw the body: the capsules between (P, 3) points, or the mannequin moved by `shift`."""
        if self.skin is None:
            canvas.capsules(camera, self.capsules, points)
        else:
            canvas.skin(camera, self.skin, frame, shift)


def on_floor(points: Float32, level: float) -> Float32:
    """(..., 3) the points straight below or above on the floor y = `level`."""
    flat = points.copy()
    flat[..., 1] = level
    return flat


class Scene:
    """One motion set up for drawing frame by frame.

    The camera stands to the person's front right, so that walking forward goes to the right of the picture. It stands
    still where the whole path fits with the person at least a third of the picture high, and else travels along
    with them.

    Args:
        motion: what to draw, of any length and frame rate.
        width, height: size of the whole picture in pixels, made even. A caption takes a column at the right.
        body: "capsules", or "mannequin" for the surface of our GLB files.
    """

    def __init__(self, motion: Motion, width: int = 800, height: int = 480, body: Body = "capsules") -> None:
        self.motion, self.width, self.height = motion, max(320, width // 2 * 2), max(240, height // 2 * 2)
        words = clean_text(motion.caption or "")
        self._panel = _panel(words, round(0.3 * self.width) if words else 0, self.height)
        self._view = self.width - self._panel.shape[1]
        self._person = Person(motion, body)
        self._points = self._person.capsules.points(motion.joints)
        self._canvas = Canvas(self._view, self.height)
        self._place()

    def __len__(self) -> int:
        return len(self.motion)

    def __iter__(self) -> Iterator[Pixels]:
        return (self.frame(index) for index in range(len(self)))

    def _place(self) -> None:
        """Choose where the camera stands and goes, and draw the floor that it sees."""
        person, view, height = self._person, self._view, self.height
        azimuth = front(self.motion.joints, self.motion.skeleton) - np.deg2rad(40)
        frame = (0.06 * view, 0.07 * height, 0.94 * view, 0.92 * height)
        focal, pitch, nearest = 1.75 * height, np.deg2rad(15), 3.4 * person.scale
        some = slice(None, None, max(1, len(self) // 1000))
        cloud = person.outline(self._points[some])
        self._track = np.zeros((len(self), 3))
        self._camera = fit_camera(cloud, azimuth, pitch, focal, frame, nearest)
        if self._camera.scale * 1.7 * person.scale < 0.34 * height:
            on_way = self.motion.joints[:, 0] * [1.0, 0.0, 1.0]
            self._track = averaged(on_way, gaussian(0.6 * self.motion.fps), "held")
            self._camera = fit_camera(cloud - self._track[some, None], azimuth, pitch, focal, frame, nearest)
        self._floor = person.floor(self._camera, view, height)
        target = self._camera.target
        self._still = None if self._track.any() else self._floor.draw(target[0], target[2])

    def frame(self, index: int) -> Pixels:
        """(height, width, 3) uint8 picture of one frame."""
        canvas, person, points = self._canvas, self._person, self._points[index]
        camera = self._camera.aim(np.asarray(self._camera.target) + self._track[index])
        canvas.clear(self._floor.draw(camera.target[0], camera.target[2]) if self._still is None else self._still)
        step = max(1, len(self) // 400)
        canvas.line(camera, person.ground[::step], 2.0, PATH, 0.22)
        done = np.concatenate([person.ground[: index + 1 : step], person.ground[index : index + 1]])
        canvas.line(camera, done, 3.0, PATH, 0.75)
        person.draw_shadow(canvas, camera, index, points)
        person.draw(canvas, camera, index, points)
        picture = np.empty((self.height, self.width, 3), dtype=np.uint8)
        picture[:, : self._view] = canvas.pixels()
        picture[:, self._view :] = self._panel
        self._stamp(picture, index)
        return picture

    def _stamp(self, picture: Pixels, index: int) -> None:
        """Seconds at the lower left and a thin bar of progress along the lower edge, in place."""
        size = round(0.034 * self.height)
        text = f"{index / self.motion.fps:.2f} s"
        top, left = self.height - 2 * size - 6, size
        patch = picture[top : top + size + 8, left : left + 8 * size]
        image = Image.fromarray(patch)
        ImageDraw.Draw(image).text((0, 0), text, fill=INK, font=font(size))
        patch[:] = np.asarray(image)
        thick = max(3, self.height // 120)
        picture[-thick:] = RULE
        picture[-thick:, : round(self.width * (index + 1) / len(self))] = PATH


def _panel(words: str, width: int, height: int) -> Pixels:
    """(height, width, 3) the column with the caption; empty without width."""
    image = Image.new("RGB", (width, height), (255, 255, 255))
    if width:
        pen, pad, size = ImageDraw.Draw(image), round(0.1 * width), round(0.042 * height)
        pen.line([(0, 0), (0, height)], RULE, 1)
        lines = wrap(words, size, width - 2 * pad, max(1, int((height - 7 * size) / (1.35 * size))))
        for row, line in enumerate(lines):
            pen.text((pad, pad + row * round(1.35 * size)), line, fill=INK, font=font(size))
        legend(pen, pad, height - round(2.2 * size), round(0.75 * size))
    return np.asarray(image)
