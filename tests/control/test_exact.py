"""The exact fit: every constraint to float precision, all at once, bones kept, feet held."""

from __future__ import annotations

import numpy as np
import pytest
from people import person

from motiongpt3 import Motion, MotionGPT3Error
from motiongpt3.control import constraints as c
from motiongpt3.control.bend import anchors, bend
from motiongpt3.control.exact import errors, fit, matern
from motiongpt3.motion.contacts import Contact, slides
from motiongpt3.motion.poses import bone_lengths, rotate
from motiongpt3.motion.skeleton import HUMANML3D

WALK = Motion(person(80, speed=1.2))
STAND = Motion(person(80, arm=0.3))
BOW = person(1, arm=2.0)[0]
WRIST = HUMANML3D.index("l_wrist")


def met(given: list[c.AnyConstraint], motion: Motion = WALK) -> Motion:
    """The fitted motion, checked: everything holds, no bone has another length, nothing is wild."""
    asked = c.resolve(given, len(motion), motion.fps).constraints
    bent = motion.replace(joints=bend(motion.joints, anchors(asked), motion.fps).joints)
    found = fit(bent, asked)
    for one in found.constraints:
        metres, radians = errors(one, found.motion)
        assert metres.max() <= 1e-5, one.label
        assert radians.max() <= 1e-3, one.label
    lengths = bone_lengths(found.motion.joints.astype(float))
    np.testing.assert_allclose(lengths, bone_lengths(motion.joints.astype(float)), atol=2e-6)
    return found.motion


S_SHAPE = c.RootPath(seconds=[0, 1, 2, 3, 4], xz=[[0, 0], [0, 1], [0.6, 2], [1.2, 2.6], [1.4, 3.4]])


@pytest.mark.parametrize(
    "given",
    [
        [S_SHAPE],
        [c.RootPath(frames=[0, 40, 79], xz=[[0, 0], [0.3, 2], [0, 4]], headings=[0.5, 0, -0.5])],
        [c.RootPath(frames=range(80), xz=np.stack([0 * np.arange(80), np.arange(80) * 0.05], -1), smooth=True)],
        [c.Keyframe(seconds=2, pose=BOW + np.array([0.2, 0, 2.0]))],
        [c.Keyframe(seconds=2, pose=BOW, placed=False)],
        [c.Keyframe(seconds=2, pose=BOW, placed=False, joints=("r_wrist", "r_elbow"))],
        [c.Keyframe(seconds=n, pose=rotate(BOW, n) + np.array([0, 0, n])) for n in (0.5, 1.0, 2.0, 3.5)],
        [c.EffectorTarget("left_hand", seconds=[1, 3], positions=[[0.4, 1.6, 1.4], [0.3, 1.2, 3.9]])],
        [c.EffectorTarget("left_foot", seconds=2, positions=[0.2, 0.5, 2.6])],
        [c.Contact("left_foot", 1.0, 1.5)],
        [
            S_SHAPE,
            c.Keyframe(seconds=2, pose=BOW, placed=False, joints=("r_wrist",)),
            c.EffectorTarget("left_hand", seconds=3, positions=[1.4, 1.4, 2.9]),
            c.EffectorTarget("head", seconds=1.5, positions=[0.3, 1.5, 1.55]),
            c.Contact("left_foot", 0.5, 0.7),
        ],
    ],
    ids=["path", "headings", "smooth", "pose", "unplaced", "arm", "poses", "hand", "foot", "contact", "all"],
)  # fmt: skip
def test_everything_that_is_asked_for_holds(given: list[c.AnyConstraint]) -> None:
    met(given)


def test_a_hand_in_all_frames_while_walking_past() -> None:
    frames = np.arange(20, 50)
    met([c.EffectorTarget("left_hand", frames=frames, positions=np.tile([0.4, 1.2, 2.1], (30, 1)))])


def test_what_is_far_from_a_constraint_stays() -> None:
    fitted = met(
        [c.EffectorTarget("left_hand", frames=[20], positions=STAND.joints[20, WRIST] + [0.2, 0.2, 0.1])], STAND
    )
    moved = np.linalg.norm(fitted.joints - STAND.joints, axis=-1)
    assert moved[20, WRIST] == pytest.approx(0.3, abs=1e-4)
    assert moved[50:].max() < 5e-3
    assert moved[:, HUMANML3D.index("r_wrist")].max() < 0.1


def test_a_straight_arm_bends_when_its_hand_is_lifted() -> None:
    fitted = met(
        [c.EffectorTarget("left_hand", frames=[40], positions=STAND.joints[40, WRIST] + [0, 0.15, 0.02])], STAND
    )
    moved = np.linalg.norm(fitted.joints - STAND.joints, axis=-1)[40]
    assert moved[HUMANML3D.index("head")] < 0.05
    elbow = fitted.joints[40, HUMANML3D.index("l_elbow")] - STAND.joints[40, HUMANML3D.index("l_elbow")]
    assert elbow[2] < -0.05  # backwards


def test_feet_that_stand_stay_where_they_are() -> None:
    fitted = met(
        [c.EffectorTarget("left_hand", frames=[40], positions=STAND.joints[40, WRIST] + [0.3, 0.3, 0.3])], STAND
    )
    assert slides(fitted, [Contact(0, 0, 80), Contact(1, 0, 80)]).max() < 0.01
    assert fitted.joints[..., 1].min() > -0.005


def test_nothing_to_do_changes_nothing() -> None:
    here = WALK.joints[40]
    fitted = met([c.Keyframe(frame=40, pose=here)])
    assert np.abs(fitted.joints - WALK.joints).max() < 1e-5


def test_the_change_is_smooth() -> None:
    fitted = met(
        [c.EffectorTarget("left_hand", frames=[40], positions=STAND.joints[40, WRIST] + [0.1, 0.3, 0.2])], STAND
    )
    change = fitted.joints.astype(float) - STAND.joints
    assert np.abs(np.diff(change, n=2, axis=0)).max() < 0.04


def test_what_no_body_can_do_is_refused_with_what_it_misses() -> None:
    given = [
        c.RootPath(frames=[40], xz=[[0, 2.4]]),
        c.EffectorTarget("left_hand", frames=[40], positions=[1.2, 1.2, 2.4]),
    ]
    asked = c.resolve(given, 80, 20, best_effort=True).constraints
    with pytest.raises(MotionGPT3Error, match="cannot be met with the rest: it misses by 0"):
        fit(WALK, asked)
    found = fit(WALK, asked, best_effort=True)
    assert found.misses
    assert np.isfinite(found.motion.joints).all()
    assert np.abs(found.motion.joints - WALK.joints).max() < 2


def test_too_much_is_refused() -> None:
    every = c.RootPath(frames=range(80), xz=WALK.joints[:, 0, [0, 2]])
    poses = [c.Keyframe(frame=n, pose=WALK.joints[n], joints=HUMANML3D.names[1:]) for n in range(80)]
    with pytest.raises(MotionGPT3Error, match="5000 at most"):
        fit(WALK, c.resolve([every, *poses], 80, 20).constraints)


def test_the_kernel_is_one_at_no_distance_and_fades() -> None:
    found = matern(np.array([0.0, 0.25, 2.0]), 0.25)
    np.testing.assert_allclose(found[0], 1)
    np.testing.assert_allclose(found[1], 0.52399, atol=1e-5)  # by hand: (1 + sqrt 5 + 5 / 3) exp(-sqrt 5)
    assert found[2] < 1e-5
