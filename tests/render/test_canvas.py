"""Pictures of motions: what must be visible is visible, and nothing anyone can pass makes drawing fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D, Skeleton
from motiongpt3.render.canvas import Canvas, Scene, clean_text, font, wrap
from motiongpt3.render.figure import LEFT, RIGHT, Camera, capsules_of, facing, fit_camera, front


def person(frames: int = 20, velocity: float = 0.0, fps: float = 20.0, caption: str | None = None) -> Motion:
    pose = np.zeros((22, 3), dtype=np.float32)
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[15] = pose[12] + [0, 0.1, 0.02]
    pose[:, 1] -= pose[:, 1].min()
    ahead = (np.arange(frames) / fps * velocity)[:, None, None] * np.array([0, 0, 1])
    return Motion(pose + ahead, fps=fps, caption=caption)


def near(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Pixels of about that hue, whatever the light."""
    pixels = picture.astype(float)
    hue = pixels - pixels.mean(axis=-1, keepdims=True)
    wanted = np.array(colour) - np.mean(colour)
    strength = np.linalg.norm(hue, axis=-1)
    return (strength > 60) & (hue @ wanted / np.maximum(strength, 1) / np.linalg.norm(wanted) > 0.97)


def columns(mask: NDArray[np.bool_]) -> float:
    return float(np.flatnonzero(mask.any(axis=0)).mean())


def test_a_frame_is_an_even_rgb_picture_with_both_sides_in_their_colours() -> None:
    picture = Scene(person(caption="a person stands"), 801, 481).frame(0)
    assert picture.shape == (480, 800, 3)
    assert picture.dtype == np.uint8
    assert near(picture, LEFT).sum() > 300
    assert near(picture, RIGHT).sum() > 300


def test_someone_seen_from_the_front_has_the_left_on_the_picture_s_right() -> None:
    motion = person()
    scene = Scene(motion, 640, 480)
    picture = scene.frame(0)[:440]
    assert columns(near(picture, LEFT)) > columns(near(picture, RIGHT)) + 5
    turned = motion.replace(joints=motion.joints * [-1, 1, -1])
    assert np.abs(Scene(turned, 640, 480).frame(0)[:440].astype(int) - picture).mean() < 3


def test_walking_forward_goes_to_the_right_and_everything_stays_in_the_picture() -> None:
    scene = Scene(person(60, 1.0), 640, 480)
    masks = [near(scene.frame(i)[:440], RIGHT) for i in (0, 30, 59)]
    places = [columns(mask) for mask in masks]
    assert places[0] + 60 < places[1] < places[2] - 60
    assert all(not mask[:, [0, -1]].any() and mask.sum() > 200 for mask in masks)


@pytest.mark.slow
def test_the_camera_follows_a_long_way_and_keeps_the_person_large() -> None:
    scene = Scene(person(400, 3.0), 640, 480)
    for index in (0, 200, 399):
        picture = scene.frame(index)[:440]
        rows = np.flatnonzero((near(picture, RIGHT) | near(picture, LEFT)).any(axis=1))
        assert np.ptp(rows) > 120
        assert abs(columns(near(picture, RIGHT)) - 320) < 120


def test_nearer_limbs_hide_farther_ones() -> None:
    motion = person()
    body = capsules_of(HUMANML3D, motion.joints)
    points = body.points(motion.joints)[0]
    from_left = Camera((0, 0.9, 0), np.pi / 2, 0.0, 4.0, 400.0, (160, 160))
    canvas = Canvas(320, 320)
    canvas.capsules(from_left, body, points)
    picture = canvas.pixels()
    assert near(picture, LEFT).sum() > 10 * max(1, near(picture, RIGHT).sum())


def test_the_shadow_is_darker_under_a_standing_than_under_a_flying_person() -> None:
    def darkest(height: float) -> float:
        motion = person()
        body = capsules_of(HUMANML3D, motion.joints)
        points = body.points(motion.joints)[0] + np.float32([0, height, 0])
        canvas = Canvas(320, 320)
        canvas.shadow(Camera((0, 0.5, 0), 0.0, 0.3, 5.0, 400.0, (160, 160)), body, points, -0.03)
        return float(canvas.colour.min())

    assert darkest(0.0) + 30 < darkest(0.6) < 240


@given(st.floats(-3.1, 3.1), st.floats(0.0, 0.6), st.integers(0, 1000))
def test_a_fitted_camera_sees_every_point(azimuth: float, pitch: float, seed: int) -> None:
    points = np.random.default_rng(seed).normal(0, 2, (50, 3)) + 5
    camera = fit_camera(points, azimuth, pitch, 700.0, (20, 30, 500, 400), 1.0)
    seen = camera.project(points)
    assert (seen[:, 0] > 18).all()
    assert (seen[:, 0] < 502).all()
    assert (seen[:, 1] > 28).all()
    assert (seen[:, 1] < 402).all()


@pytest.mark.slow
@given(st.floats(-3.1, 3.1), st.floats(0.1, 0.6), st.floats(5, 300), st.floats(100, 230))
def test_floor_inverts_projection(azimuth: float, pitch: float, x: float, y: float) -> None:
    camera = Camera((1.0, 0.8, -2.0), azimuth, pitch, 4.0, 400.0, (160.0, 60.0))
    grid_x, grid_z, away = camera.floor(320, 240, 0.1)
    row, column = int(y), int(x)
    assert np.isfinite(away[row, column])
    back = camera.project(np.array([grid_x[row, column] + 1.0, 0.1, grid_z[row, column] - 2.0]))
    assert back[:2] == pytest.approx([column + 0.5, row + 0.5], abs=0.05)


def test_facing_is_plus_z_in_the_rest_pose_and_turns_with_the_body() -> None:
    joints = person().joints
    assert facing(joints, HUMANML3D)[0] == pytest.approx([0, 1], abs=1e-6)
    to_left = joints[..., [2, 1, 0]] * np.float32([1, 1, -1])
    assert facing(to_left, HUMANML3D)[0] == pytest.approx([1, 0], abs=1e-6)
    assert front(to_left, HUMANML3D) == pytest.approx(np.pi / 2)
    assert facing(np.zeros((3, 22, 3)), HUMANML3D)[0] == pytest.approx([0, 1])


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.text(max_size=300))
def test_any_caption_can_be_drawn(caption: str) -> None:
    picture = Scene(person(1, caption=caption), 320, 240).frame(0)
    assert picture.shape == (240, 320, 3)
    same = np.array_equal(picture, Scene(person(1), 320, 240).frame(0))
    assert same != bool(clean_text(caption)), "only words change the picture"


@pytest.mark.slow
@pytest.mark.parametrize(
    "caption", ["", "  \n", "x" * 100_000, "\ud800\x00", "يمشي شخص إلى الأمام", "人が歩く" * 99, "🙂"]
)
def test_odd_captions(caption: str) -> None:
    """What can be seen of a caption takes the column at the right; the person is as without it."""
    picture = Scene(person(2, caption=caption), 320, 240).frame(1)
    assert picture.shape == (240, 320, 3)
    column, words = picture[:, 225:], bool(clean_text(caption))
    assert (column[:10] == 255).all() == words, "paper of the column, or of the floor"
    assert bool((column[:180].min(axis=-1) < 120).any()) == words, "ink"


@given(st.text(max_size=200), st.integers(60, 300), st.integers(1, 5))
def test_wrapped_lines_fit(text: str, room: int, rows: int) -> None:
    text = clean_text(text)
    lines = wrap(text, 14, room, rows)
    assert len(lines) <= rows
    assert all(font(14).getlength(line) <= room for line in lines)
    if not any(line.endswith("...") for line in lines):
        assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "motion",
    [
        person(1),
        person(3, fps=0.1),
        person(5, fps=1000.0),
        Motion(np.zeros((4, 22, 3))),
        Motion(person().joints * 100),
        Motion(person().joints * 1e-3),
        Motion(person().joints + 9e4),
        Motion(person().joints - [0, 50, 0]),
        Motion(np.random.default_rng(0).normal(0, 1e4, (5, 22, 3))),
        person(5000, 1.0),
    ],
    ids=["one", "slow", "fast", "point", "centimetres", "tiny", "far", "deep", "scattered", "long"],
)
def test_odd_motions(motion: Motion) -> None:
    scene = Scene(motion, 320, 240)
    for index in {0, len(motion) // 2, len(motion) - 1}:
        assert scene.frame(index).shape == (240, 320, 3)


def test_another_skeleton_is_drawn_too() -> None:
    skeleton = Skeleton(
        names=("root", "left", "right", "top"),
        parents=(-1, 0, 0, 0),
        offsets=((0, 0, 0), (0.3, -0.8, 0), (-0.3, -0.8, 0), (0, 0.6, 0)),
        chains=((0, 1), (0, 2), (0, 3)),
        pairs=((1, 2),),
        contacts=(1, 1, 2, 2),
        hips=(1, 2),
        shoulders=(1, 2),
    )
    joints = np.asarray(skeleton.offsets)[None] + [0, 0.8, 0]
    picture = Scene(Motion(joints, skeleton=skeleton), 320, 240).frame(0)
    assert near(picture, LEFT).sum() > 50
    assert near(picture, RIGHT).sum() > 50


@pytest.mark.slow
def test_the_same_frame_twice_is_the_same_picture_in_any_order() -> None:
    scene = Scene(person(30, 2.0, caption="go"), 320, 240)
    first = scene.frame(10)
    scene.frame(25)
    assert np.array_equal(scene.frame(10), first)
    assert len(list(scene)) == 30
