"""Arrays of research code: layouts, skeletons, batches, features; what is none of them says how to go on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from people import person

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import ReadingWarning, ReadOptions, load, read
from motiongpt3.formats.arrays import _ORDERS, read_array
from motiongpt3.motion.features import joints_to_features
from motiongpt3.motion.skeleton import HUMANML3D

WALK = person(24, speed=1.0, arm=0.5)
LAYOUTS = {
    "ours": WALK,
    "flat": WALK.reshape(24, 66),
    "one of a batch": WALK[None],
    "MDM": WALK.transpose(1, 2, 0),
    "MDM, one of a batch": WALK.transpose(1, 2, 0)[None],
    "channels before joints": WALK.transpose(0, 2, 1),
}


def saved(array: np.ndarray, folder: Path) -> Path:
    np.save(folder / "motion.npy", array)
    return folder / "motion.npy"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_hold_the_same_motion(tmp_path: Path, layout: str) -> None:
    motion = load(saved(LAYOUTS[layout], tmp_path))
    np.testing.assert_array_equal(motion.joints, WALK)
    assert motion.fps == 20


@pytest.mark.parametrize("joints", [24, 45, 52, 55, 127, 144])
def test_body_models_begin_with_our_joints(tmp_path: Path, joints: int) -> None:
    more = np.concatenate([WALK, np.repeat(WALK[:, 20:21] + 0.05, joints - 22, axis=1)], axis=1)
    for array in (more, more.transpose(1, 2, 0)):
        reading = read(saved(array, tmp_path))
        np.testing.assert_array_equal(reading.motion.joints, WALK)
        assert f"{joints} joints" in " ".join(reading.notes)


def scattered(joints: int) -> np.ndarray:
    """Our joints in another skeleton's order."""
    array = np.full((len(WALK), joints, 3), 0.9)
    for name, place in _ORDERS[joints].places.items():
        array[:, list(place) if isinstance(place, dict) else [place]] = WALK[:, [HUMANML3D.index(name)]]
    return array


@pytest.mark.parametrize("joints", [27, 30, 77])
def test_other_skeletons_find_their_joints(tmp_path: Path, joints: int) -> None:
    motion = load(saved(scattered(joints), tmp_path))
    found, wanted = (poses[:, [4, 5, 7, 8, 18, 19, 20, 21]] for poses in (motion.joints, WALK))
    assert np.abs(found - wanted).max() < 0.05


def test_places_of_other_skeletons_are_theirs() -> None:
    for joints, order in _ORDERS.items():
        assert set(order.places) == set(HUMANML3D.names)
        for place in order.places.values():
            weights = place if isinstance(place, dict) else {place: 1.0}
            assert sum(weights.values()) == pytest.approx(1)
            assert all(0 <= index < joints for index in weights)


def test_a_robot_gets_a_head_over_its_shoulders() -> None:
    """Joints of a standing G1 to 5 cm, left +x, facing +z."""
    robot = np.zeros((40, 34, 3))
    for side, leg, arm in ((1, 1, 18), (-1, 8, 26)):
        ys, zs = (0.7, 0.68, 0.6, 0.4, 0.1, 0.08, 0.04), (0, 0, 0, 0.02, 0, 0, 0.12)
        robot[:, leg : leg + 7] = np.stack([np.full(7, 0.1 * side), ys, zs], axis=-1)
        xs, ys = (0.1, 0.14, 0.15, 0.16, 0.17, 0.17, 0.17, 0.17), (1.08, 1.07, 1.0, 0.9, 0.8, 0.75, 0.7, 0.66)
        robot[:, arm : arm + 8] = np.stack([np.array(xs) * side, ys, np.zeros(8)], axis=-1)
    robot[:, 0], robot[:, 15:18, 1] = (0, 0.79, 0), (0.83, 0.86, 0.88)
    reading = read_array(robot, "g1", ReadOptions())
    joints = reading.motion.joints
    assert joints[0, 15, 1] > joints[0, 12, 1] > joints[0, 16, 1] - 0.05
    assert joints[..., 1].min() == pytest.approx(0.04 * 0.82 / 0.58, abs=0.03)
    assert "Unitree G1" in reading.notes[0]


def test_a_batch_is_chosen_from(tmp_path: Path) -> None:
    path = saved(np.stack([WALK, WALK + np.float32([0, 0, 1])]), tmp_path)
    with pytest.raises(MotionGPT3Error, match="holds 2 motions of 24 frames: choose one with --animation 1 to 2"):
        load(path)
    np.testing.assert_allclose(load(path, animation="2").joints, WALK + np.float32([0, 0, 1]))
    for wrong in ("3", "0", "walk", "-1", "9" * 30):
        with pytest.raises(MotionGPT3Error, match="--animation is 1 to 2"):
            load(path, animation=wrong)


def test_features_are_read_and_normalised_ones_refused_with_the_way_back(tmp_path: Path) -> None:
    features = joints_to_features(torch.from_numpy(WALK)).numpy()
    wanted = load(saved(features, tmp_path)).joints
    for array in (features.T, features.T[:, None], features[None]):
        np.testing.assert_array_equal(load(saved(array, tmp_path)).joints, wanted)
    plain = joints_to_features(torch.from_numpy(person(60, speed=0.5, arm=1.0, seed=3))).numpy()
    normal = (plain - plain.mean(0)) / np.maximum(plain.std(0), 1e-2)
    with pytest.raises(MotionGPT3Error, match=r"normalised features: .*Std.npy.*Mean.npy"):
        load(saved(normal, tmp_path))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10, 272), "272 features"), ((10, 72), "body-model poses"), ((10, 17, 2), "positions in a picture"),
        ((10, 17, 3), "known skeleton"), ((4, 4), "known skeleton"), ((2, 2, 2, 2, 22, 3), "known skeleton"),
    ],
)  # fmt: skip
def test_what_is_no_motion_says_how_to_go_on(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(MotionGPT3Error, match=message) as caught:
        load(saved(np.ones(shape), tmp_path))
    assert "\n" not in str(caught.value)


def test_kimodos_files(tmp_path: Path) -> None:
    path = tmp_path / "motion.npz"
    np.savez(path, posed_joints=WALK, global_rot_mats=np.zeros((24, 22, 3, 3)))
    assert load(path).fps == 30
    np.savez(path, posed_joints=WALK, fps=60)
    motion = load(path)
    assert motion.fps == 60
    np.testing.assert_array_equal(motion.joints, WALK)


def test_what_the_user_says_overrules(tmp_path: Path) -> None:
    path = saved(WALK[..., [0, 2, 1]] * [1, -1, 1] * 100, tmp_path)
    with pytest.warns(ReadingWarning, match="--up y"):
        motion = load(path, fps=60)
    assert motion.fps == 60
    np.testing.assert_allclose(motion.joints, WALK, atol=1e-5)
    as_it_is = load(path, up="y", unit="m").joints - np.load(path)
    np.testing.assert_allclose(as_it_is, np.broadcast_to(as_it_is[0, 0], as_it_is.shape), atol=1e-3)
    for wrong in ({"up": "w"}, {"unit": "km"}, {"fps": 0}):
        with pytest.raises(MotionGPT3Error):
            load(path, **wrong)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 21, 22, 24, 66, 263]), min_size=0, max_size=5), st.integers(0, 99))
def test_any_shape_is_read_or_refused(shape: list[int], seed: int) -> None:
    if np.prod(shape, dtype=float) > 1e5:
        return
    array = np.random.default_rng(seed).normal(size=shape)
    with contextlib.suppress(MotionGPT3Error):
        assert np.isfinite(read_array(array, "x", ReadOptions()).motion.joints).all()
