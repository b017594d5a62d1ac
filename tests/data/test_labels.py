"""Labels of clips and the phrases of actions."""

from __future__ import annotations

from motiongpt3.data.captions import finite_predicate, gerund
from motiongpt3.data.labels import PHRASES, asked_pairs, base_action


def test_base_action() -> None:
    assert base_action("run forward energetically") == "run forward"
    assert base_action("walk, turn left feebly") == base_action("walk and turn left") == "walk and turn left"


def test_every_plain_phrase_has_a_gerund_and_every_asked_action_a_phrase() -> None:
    assert {action for pair in asked_pairs() for action in pair} <= set(PHRASES)
    for phrases in PHRASES.values():
        for phrase in phrases:
            assert gerund(phrase) or " while " in phrase, phrase
            assert finite_predicate(f"a person {phrase}.") == phrase
    assert PHRASES["wave left hand"][1] == "waves the left hand"
    assert PHRASES["raise right hand"][-1] == "lifts their right arm"
