"""The three kinds of patch: the RFCs' own examples, and what Kubernetes adds."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.kube.patches import PatchNotApplicable, json_patch, merge_patch, strategic_merge_patch

# RFC 7386, appendix A
MERGES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


STRATEGIC = [
    ({"a": {"b": 1}, "c": 2}, {"a": {"$patch": "delete"}}, {"c": 2}),
    ({"c": 2}, {"a": {"$patch": "delete"}}, {"c": 2}),
    ({"a": {"b": 1}}, {"a": {"$patch": "merge", "c": 2}}, {"a": {"b": 1, "c": 2}}),
    ({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}, {"a": {"c": 2}}),
    ({"a": 1}, {"$patch": "delete"}, {}),
    (
        {"ports": [{"port": 80}, {"port": 443}]},
        {"ports": [{"$patch": "delete", "port": 80}]},
        {"ports": [{"port": 443}]},
    ),
    ({}, {"ports": [{"$patch": "delete", "port": 80}]}, {"ports": []}),
]


@pytest.mark.parametrize("target, patch, result", STRATEGIC)
def test_directives_of_a_strategic_merge_patch(target, patch, result):
    before = copy.deepcopy(target)
    assert strategic_merge_patch(target, patch) == result
    assert target == before


def test_an_unknown_directive_is_an_error():
    with pytest.raises(ValueError, match=r"\$patch is 'remove'; replace, merge or delete is needed"):
        strategic_merge_patch({"a": {}}, {"a": {"$patch": "remove"}})


@pytest.mark.parametrize("target, patch, result", MERGES)
def test_merge_patch(target, patch, result):
    before = copy.deepcopy(target)
    assert merge_patch(target, patch) == result
    assert target == before, "the target is nobody's to change"


# RFC 6902, appendix A
OPERATIONS = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
    ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
    ({"foo": [1, 2, 3]}, [{"op": "move", "from": "/foo/0", "path": "/foo/2"}], {"foo": [2, 3, 1]}),
    ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc"]}], {"foo": ["bar", ["abc"]]}),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}),
    ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
]


@pytest.mark.parametrize("target, patch, result", OPERATIONS)
def test_json_patch(target, patch, result):
    before = copy.deepcopy(target)
    assert json_patch(target, patch) == result
    assert target == before


@pytest.mark.parametrize("patch", [{"op": "add"}, None, "[]", ["x"], [None], [[]]])
def test_a_json_patch_is_a_list_of_operations(patch):
    with pytest.raises(ValueError, match="a JSON Patch is a list of operations"):
        json_patch({"foo": "bar"}, patch)


NOT_APPLICABLE = {
    "unknown operation": {"op": "fly", "path": "/foo"},
    "no operation": {"path": "/foo"},
    "no value": {"op": "add", "path": "/foo"},
    "path is no text": {"op": "add", "path": 5, "value": 1},
    "path without a slash": {"op": "add", "path": "foo", "value": 1},
    "parent is missing": {"op": "add", "path": "/baz/bat", "value": 1},
    "parent is a scalar": {"op": "add", "path": "/foo/0", "value": 1},
    "nothing to remove": {"op": "remove", "path": "/none"},
    "the whole object": {"op": "remove", "path": ""},
    "nothing to replace": {"op": "replace", "path": "/list/-", "value": 1},
    "beyond the list": {"op": "remove", "path": "/list/7"},
    "index is no number": {"op": "add", "path": "/list/x", "value": 1},
    "negative index": {"op": "add", "path": "/list/-1", "value": 1},
    "huge index": {"op": "add", "path": "/list/" + "9" * 5000, "value": 1},
    "move into itself": {"op": "move", "from": "/map", "path": "/map/a/b"},
    "move of everything": {"op": "move", "from": "", "path": "/all"},
    "copy from the end": {"op": "copy", "from": "/list/-", "path": "/foo"},
    "copy without a source": {"op": "copy", "path": "/foo"},
    "test without a value": {"op": "test", "path": "/foo"},
}


@pytest.mark.parametrize("operation", NOT_APPLICABLE.values(), ids=NOT_APPLICABLE.keys())
def test_a_json_patch_that_does_not_apply_changes_nothing(operation):
    target = {"foo": "bar", "list": [1], "map": {"a": {}}}
    before = copy.deepcopy(target)
    with pytest.raises(PatchNotApplicable, match="does not apply to the object"):
        json_patch(target, [{"op": "add", "path": "/list/-", "value": 2}, operation])
    assert target == before


@pytest.mark.parametrize("path, value", [("/a", 2), ("/a", True), ("/none", None)])
def test_a_failed_test_of_a_json_patch_names_its_path(path, value):
    with pytest.raises(PatchNotApplicable, match=f"testing value {path} failed"):
        json_patch({"a": 1}, [{"op": "test", "path": path, "value": value}])


@pytest.mark.parametrize("path", ["/list/-", "/list/0"])
def test_copies_cannot_exhaust_memory(path):
    doubling = [{"op": "copy", "from": "/list", "path": path}] * 10_000
    with pytest.raises(PatchNotApplicable):
        json_patch({"list": ["x" * 1000]}, doubling)


NAMED = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}
STRATEGIC = {
    "merges by name": ({"containers": [{"name": "b", "image": "3"}]}, ["a1", "b3"]),
    "appends": ({"containers": [{"name": "c", "image": "3"}]}, ["a1", "b2", "c3"]),
    "deletes": ({"containers": [{"name": "a", "$patch": "delete"}]}, ["b2"]),
    "replaces": ({"containers": [{"$patch": "replace"}, {"name": "z", "image": "0"}]}, ["z0"]),
    "orders": (
        {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "image": "9"}]},
        ["b9", "a1"],
    ),
}


@pytest.mark.parametrize("patch, expected", STRATEGIC.values(), ids=STRATEGIC.keys())
def test_elements_with_a_merge_key_are_merged(patch, expected):
    result = strategic_merge_patch(NAMED, patch)["containers"]
    assert [item["name"] + item["image"] for item in result] == expected


def test_lists_without_a_merge_key():
    assert strategic_merge_patch({"args": [1, 2]}, {"args": [3]}) == {"args": [3]}
    assert strategic_merge_patch({"finalizers": ["a"]}, {"finalizers": ["a", "b"]}) == {"finalizers": ["a", "b"]}
    removed = {"$deleteFromPrimitiveList/finalizers": ["a"]}
    assert strategic_merge_patch({"finalizers": ["a", "b"]}, removed) == {"finalizers": ["b"]}
    ports = {"ports": [{"port": 80}, {"port": 443}]}
    merged = strategic_merge_patch(ports, {"ports": [{"port": 80, "nodePort": 30000}]})
    assert merged == {"ports": [{"port": 80, "nodePort": 30000}, {"port": 443}]}
    assert strategic_merge_patch(ports, {"ports": [{"port": 80}]}, frozenset({"ports"})) == {"ports": [{"port": 80}]}
    assert strategic_merge_patch(
        {"strategy": {"type": "R", "r": {}}}, {"strategy": {"$retainKeys": ["type"], "type": "X"}}
    ) == {"strategy": {"type": "X"}}


plain = st.recursive(
    st.integers() | st.text(max_size=3), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
objects = st.dictionaries(st.sampled_from("abc"), plain, max_size=3)


@given(objects, objects)
def test_without_lists_strategic_and_merge_patch_agree(target, patch):
    assert strategic_merge_patch(target, patch) == merge_patch(target, patch)
    assert merge_patch(merge_patch(target, patch), patch) == merge_patch(target, patch)
