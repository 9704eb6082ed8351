"""Selectors: every form against labels, and any selector against the rule it was made from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.kube.selectors import EVERYTHING, parse_fields, parse_labels

WEB = {"app": "web", "tier": "front", "weight": "7"}
ROWS = {
    "equality": ("app=web", True),
    "equality, two signs": ("app==web", True),
    "equality, blanks": (" app = web ", True),
    "another value": ("app=db", False),
    "inequality": ("app!=web", False),
    "inequality of an absent label": ("zone!=a", True),
    "in": ("app in (db, web)", True),
    "in, not among them": ("app in (db,mq)", False),
    "in, absent label": ("zone in (a)", False),
    "notin": ("app notin (db)", True),
    "notin, absent label": ("zone notin (a)", True),
    "exists": ("app", True),
    "exists, absent": ("zone", False),
    "does not exist": ("!zone", True),
    "does not exist, but is there": ("!app", False),
    "a list behind a set": ("app in (web,db),tier=front", True),
    "all must hold": ("app=web,tier=back", False),
    "greater": ("weight>6", True),
    "less": ("weight<7", False),
    "greater, no number": ("app>6", False),
    "prefixed key": ("!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name", True),
    "empty value": ("zone=", False),
    "nothing": ("", True),
}


@pytest.mark.parametrize("text, expected", ROWS.values(), ids=ROWS.keys())
def test_label_selectors(text, expected):
    assert parse_labels(text).matches(WEB) is expected


@pytest.mark.parametrize("text", ["a=b=c", "a in b", "in (a)", "=b", "a,,b", "-a", "a in (b", "a=b c", "a>x", "a=%"])
def test_an_invalid_label_selector_is_quoted(text):
    with pytest.raises(ValueError, match="unable to parse requirement"):
        parse_labels(text)


def test_field_selectors():
    known = ("metadata.name", "status.phase")
    assert parse_fields("metadata.name=a,status.phase!=Failed", known).matches(
        {"metadata.name": "a", "status.phase": ""}
    )
    assert not parse_fields("metadata.name==b", known).matches({"metadata.name": "a"})
    with pytest.raises(ValueError, match="field label not supported: spec.x"):
        parse_fields("spec.x=1", known)


words = st.sampled_from(["a", "b", "c"])
terms = st.one_of(
    st.tuples(words, st.sampled_from(["=", "!="]), words).map(lambda t: ("".join(t), t)),
    st.tuples(words, st.sampled_from(["in", "notin"]), st.sets(words, min_size=1)).map(
        lambda t: (f"{t[0]} {t[1]} ({','.join(t[2])})", t)
    ),
    words.map(lambda key: (key, (key, "exists", None))),
    words.map(lambda key: (f"!{key}", (key, "absent", None))),
)


def _holds(term, labels) -> bool:
    key, operator, value = term
    there = key in labels
    rules = {
        "=": lambda: labels.get(key) == value,
        "!=": lambda: labels.get(key) != value,
        "in": lambda: there and labels[key] in value,
        "notin": lambda: not (there and labels[key] in value),
        "exists": lambda: there,
        "absent": lambda: not there,
    }
    return rules[operator]()


@given(st.lists(terms, max_size=4), st.dictionaries(words, words))
def test_any_selector_is_the_conjunction_of_its_terms(chosen, labels):
    selector = parse_labels(",".join(text for text, _ in chosen))
    assert selector.matches(labels) == all(_holds(term, labels) for _, term in chosen)
    assert (selector == EVERYTHING) == (not chosen)
