"""Did the person do it? One rule per action, on measurements of the motion alone.

A rule requires what the words say and excludes what they rule out: who waves stays in place with the other hand down,
who walks forward neither runs nor turns nor holds a hand over the head. Lengths are metres on a person with legs of
0.83 m, whose pelvis stands 0.93 m high. The thresholds were set by eye between the measures of recorded clips of an
action and those of the others; what they miss and mistake is in docs/prompts-check.md, measured by `validate_rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from motiongpt3.evaluation.checks.body_measures import Measures, Side
from motiongpt3.motion.motion import Motion

Rule = Callable[[Measures], bool]


def judge(motion: Motion, action: str) -> bool:
    """Whether the motion shows the action, a name in RULES; KeyError for another one. Errors as in `Measures`."""
    return RULES[action](Measures(motion))


# What many actions share.


def stays(body: Measures) -> bool:
    """On the spot: no more than a weight shift or a single step, and no turn."""
    return body.roam < 0.5 and abs(body.turn) < 45 and body.speed < 0.5


def upright(body: Measures) -> bool:
    """Neither crouched nor bent over at any time."""
    return body.pelvis_low > 0.78 and body.lean < 45


def feet_rest(body: Measures) -> bool:
    """No step, kick or jump: ankles rest at 0.05-0.10 m and pass 0.2 m in every step."""
    return max(body.left_side.foot_top, body.right_side.foot_top) < 0.2


def stands(body: Measures) -> bool:
    """On both feet, on the spot, upright: what a gesture of the arms needs."""
    return stays(body) and upright(body) and feet_rest(body)


def rises_again(body: Measures) -> bool:
    """Begins and ends standing."""
    return min(body.pelvis_start, body.pelvis_end) > 0.8


def hands_low(body: Measures) -> bool:
    """No hand over the head."""
    return max(body.left_side.wrist_above_head, body.right_side.wrist_above_head) < 0


def hand_down(hand: Side) -> bool:
    """Never up to the chest (bent arms in a stance stay 0.2 m below the shoulder)."""
    return hand.wrist_top < -0.2


def lifted(hand: Side) -> bool:
    """The hand came up to the shoulder at least, from well below (one that was there all along was not raised), and
    not behind the back.
    """
    return hand.wrist_top > -0.1 and hand.wrist_top - hand.wrist_low > 0.35 and hand.reach_back < 0.3


def waved(hand: Side) -> bool:
    """Up at the chest or higher and back and forth there: raising and lowering is one reversal, each wave two more."""
    return hand.wrist_top > -0.15 and hand.swings >= 3


def steps(body: Measures) -> bool:
    """The feet pass each other: rules out gliding."""
    return body.stride > 0.4 and body.roam > 0.6


def runs(body: Measures) -> bool:
    """Faster than people walk, or as fast and with both feet off the floor; a jump or leap rises higher than a run."""
    fast = body.forward_speed > 1.9 or (body.forward_speed > 1.05 and body.flight > 0.04)
    return fast and body.pelvis_high < 1.08


def walks(body: Measures) -> bool:
    """Steps, not a run, not a crouch, no hand over the head; in any direction."""
    return (
        steps(body)
        and not runs(body)
        and 0.35 < body.speed < 1.9
        and body.clearance < 0.1
        and max(body.left_side.foot_top, body.right_side.foot_top) < 0.6
        and body.pelvis_low > 0.7
        and hands_low(body)
    )


def straight(body: Measures) -> bool:
    """Faces the same way throughout."""
    return max(body.turn_left, body.turn_right) < 45 and abs(body.turn) < 35


def turns(body: Measures, sign: float, least: float, most: float) -> bool:
    """Round to one side, 1 for the left, by so many degrees, and never far to the other."""
    other = body.turn_right if sign > 0 else body.turn_left
    return least <= sign * body.turn <= most and other < 30


# Going somewhere.


def walk_forward(body: Measures) -> bool:
    """Forward at a walk: straight, with little sideways drift."""
    return walks(body) and straight(body) and body.forward_speed > 0.35 and abs(body.left_speed) < 0.2


def walk_backward(body: Measures) -> bool:
    """Backward at a walk, facing the same way."""
    return walks(body) and straight(body) and body.forward_speed < -0.3 and abs(body.left_speed) < 0.2


def walk_diagonally(body: Measures, sign: float) -> bool:
    """Forward and to one side at once without turning there."""
    sideways = sign * body.left_speed
    return walks(body) and straight(body) and sideways > 0.15 and body.forward_speed > 0.2


def walk_turn(body: Measures, sign: float) -> bool:
    """Forward at a walk and round to one side by 45 degrees to half a turn, never far to the other."""
    return walks(body) and body.forward_speed > 0.35 and turns(body, sign, 45, 200)


def run_forward(body: Measures) -> bool:
    """Forward at a run, straight."""
    return runs(body) and steps(body) and straight(body) and hands_low(body) and abs(body.left_speed) < 0.5


def run_turn(body: Measures, sign: float) -> bool:
    """At a run and round to one side by 25 degrees at least."""
    return runs(body) and steps(body) and hands_low(body) and turns(body, sign, 25, 270)


# The hands.


def raise_hand(body: Measures, hand: Side, other: Side) -> bool:
    """One hand comes up, does not wave; the other stays down."""
    return stands(body) and lifted(hand) and hand.swings < 3 and hand_down(other)


def raise_both_hands(body: Measures) -> bool:
    """Both hands come up and neither waves."""
    hands = (body.left_side, body.right_side)
    return stands(body) and all(lifted(hand) and hand.swings < 3 for hand in hands)


def wave_hand(body: Measures, hand: Side, other: Side) -> bool:
    """One hand waves, the other stays down."""
    return stands(body) and waved(hand) and hand_down(other)


def wave_both_hands(body: Measures) -> bool:
    """Both hands wave."""
    return stands(body) and waved(body.left_side) and waved(body.right_side)


def wave_any_hand(body: Measures) -> bool:
    """At least one hand waves."""
    return stands(body) and (waved(body.left_side) or waved(body.right_side))


def raise_arm_sideways(body: Measures, arm: Side, other: Side) -> bool:
    """A nearly straight arm up at its own side; the other stays down."""
    return raise_hand(body, arm, other) and arm.elbow_at_top > 130 and -30 < arm.plane < 40


def raise_arm_diagonally(body: Measures, arm: Side, other: Side) -> bool:
    """A nearly straight arm up between sideways and forward, to about shoulder height; the other stays down."""
    up = -0.27 < arm.wrist_top < 0.35 and arm.wrist_top - arm.wrist_low > 0.22 and arm.swings < 3
    return stands(body) and up and hand_down(other) and arm.elbow_at_top > 125 and 18 < arm.plane < 75


def swing_arm_back(body: Measures, arm: Side, other: Side) -> bool:
    """A low arm goes far behind the body and not in front; the other hangs."""
    behind = arm.reach_back > 0.14 and arm.reach_back > arm.reach_forward and arm.wrist_top < 0.1
    return stands(body) and behind and hand_down(other) and other.reach_back < min(0.3, arm.reach_back - 0.1)


# The legs, on the spot. Where the hands are does not matter.


def squat(body: Measures) -> bool:
    """Down on both bent knees, evenly, the hips over the feet, and up again."""
    knees = max(body.left_side.knee_at_bottom, body.right_side.knee_at_bottom)
    even = abs(body.feet_ahead) < 0.3 and abs(body.slant) < 0.16
    down = body.pelvis_low < 0.8 and body.pelvis_start - body.pelvis_low > 0.15 and knees < 130
    return rises_again(body) and stays(body) and feet_rest(body) and down and even and body.seat < 0.2


def sit_and_stand(body: Measures) -> bool:
    """Down to the height of a seat, hips behind the feet, thighs level rather than folded, and up again."""
    thighs = max(body.left_side.thigh, body.right_side.thigh)
    seated = 0.4 < body.pelvis_low < 0.68 and body.seat > 0.1 and 65 < thighs < 105
    even = abs(body.feet_ahead) < 0.25 and abs(body.slant) < 0.12
    return rises_again(body) and body.roam < 0.8 and abs(body.turn) < 45 and seated and even


def side_lunge(body: Measures, leg: Side, other: Side) -> bool:
    """Feet wide, weight over one bent knee, the other leg straighter, and up again."""
    wide = body.feet_apart > 0.4 and leg.sign * body.slant > 0.1
    bent = leg.knee_at_bottom < 135 and other.knee_at_bottom - leg.knee_at_bottom > 20
    return rises_again(body) and stays(body) and wide and bent and body.pelvis_start - body.pelvis_low > 0.07


def lunge(body: Measures, front: Side, other: Side) -> bool:
    """One foot far in front of the other, both knees bend, and up again."""
    long = front.sign * body.feet_ahead > max(0.4, body.feet_apart)
    bent = front.knee_at_bottom + other.knee_at_bottom < 280 and body.pelvis_start - body.pelvis_low > 0.1
    return body.pelvis_end > 0.75 and stays(body) and long and bent


def raise_leg(body: Measures, leg: Side, other: Side) -> bool:
    """A straight leg comes up in front, without the snap of a kick; the other stands."""
    up = leg.thigh > 45 and leg.knee_at_lift > 120 and leg.foot_top > 0.3 and leg.foot_forward > 0.5
    return stays(body) and upright(body) and up and leg.foot_speed < 4.2 and other.foot_top < 0.2


def lift_knee(body: Measures, leg: Side, other: Side) -> bool:
    """A bent knee comes up to about the hip, not to an elbow; the other leg stands."""
    up = leg.thigh > 55 and leg.knee_at_lift < 120 and leg.foot_top > 0.25 and leg.foot_forward < 0.55
    alone = other.foot_top < 0.2 and other.elbow_to_knee > 0.3
    return stays(body) and body.pelvis_low > 0.78 and up and alone and leg.foot_speed < 3


def elbow_to_knee(body: Measures) -> bool:
    """A lifted knee and the other side's elbow meet, standing."""
    left, right = body.left_side, body.right_side
    met = (left.elbow_to_knee < 0.25 and right.thigh > 80) or (right.elbow_to_knee < 0.25 and left.thigh > 80)
    return stays(body) and body.pelvis_low > 0.75 and met


def kick(body: Measures, leg: Side, other: Side) -> bool:
    """The foot snaps up in front, from a bent knee or very fast; the other foot stays below the knee."""
    high = leg.foot_top > 0.6 and leg.foot_forward > 0.3 and leg.thigh > 60
    snap = leg.foot_speed > 4.2 or (leg.foot_speed > 2.6 and leg.knee_at_lift < 130)
    return high and snap and other.foot_top < 0.45 and body.roam < 1.5 and body.pelvis_low > 0.7


# The whole body.


def jump(body: Measures) -> bool:
    """Both feet well off the floor, the pelvis higher than standing or running ever brings it, and down again."""
    rise = body.pelvis_high - max(body.pelvis_start, body.pelvis_end, 0.85)
    off = body.clearance > 0.1 and body.flight > 0.03 and rise > 0.1
    return off and abs(body.forward_speed) < 1.3 and body.stride < 0.6


def jump_forward(body: Measures) -> bool:
    """A jump that lands well ahead."""
    return jump(body) and body.forward > 0.4 and abs(body.left) < body.forward


def bow(body: Measures) -> bool:
    """The trunk bends forward from the hips over straight legs and comes up again; the hands stay off the floor."""
    hands = min(body.left_side.wrist_floor, body.right_side.wrist_floor) > 0.5
    legs = body.pelvis_low > 0.82 and feet_rest(body)
    return stays(body) and legs and body.lean > 23 and body.lean - body.lean_end > 18 and hands and hands_low(body)


def reach_floor(body: Measures) -> bool:
    """Bends or crouches until a hand is near the floor, and stands up again."""
    hand = min(body.left_side.wrist_floor, body.right_side.wrist_floor)
    return rises_again(body) and body.roam < 2 and hand < 0.3 and body.lean > 35 and body.lean - body.lean_end > 25


def lie_down(body: Measures) -> bool:
    """From higher up to the floor, pelvis and head, and stays there."""
    return body.pelvis_start > 0.45 and body.pelvis_end < 0.3 and body.head_end < 0.4


def _both(name: str, rule: Callable[[Measures, Side, Side], bool]) -> dict[str, Rule]:
    """A rule of one limb as two: `name` with {} for the side."""
    return {
        name.format("left"): lambda body: rule(body, body.left_side, body.right_side),
        name.format("right"): lambda body: rule(body, body.right_side, body.left_side),
    }


RULES: dict[str, Rule] = {
    "walk forward": walk_forward,
    "walk backward": walk_backward,
    "walk diagonally left": partial(walk_diagonally, sign=1.0),
    "walk diagonally right": partial(walk_diagonally, sign=-1.0),
    "walk and turn left": partial(walk_turn, sign=1.0),
    "walk and turn right": partial(walk_turn, sign=-1.0),
    "run forward": run_forward,
    "run and turn left": partial(run_turn, sign=1.0),
    "run and turn right": partial(run_turn, sign=-1.0),
    **_both("raise {} hand", raise_hand),
    "raise both hands": raise_both_hands,
    **_both("wave {} hand", wave_hand),
    "wave both hands": wave_both_hands,
    "wave": wave_any_hand,
    **_both("raise {} arm sideways", raise_arm_sideways),
    **_both("raise {} arm diagonally", raise_arm_diagonally),
    **_both("swing {} arm back", swing_arm_back),
    "squat": squat,
    "sit and stand": sit_and_stand,
    **_both("side lunge {}", side_lunge),
    **_both("lunge {}", lunge),
    **_both("raise {} leg", raise_leg),
    **_both("lift {} knee", lift_knee),
    "elbow to knee": elbow_to_knee,
    **_both("kick {}", kick),
    "jump": jump,
    "jump forward": jump_forward,
    "bow": bow,
    "reach floor": reach_floor,
    "lie down": lie_down,
}
"""Action name -> rule on its measurements."""
