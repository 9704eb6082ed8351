"""Any configuration that a file can hold."""

from __future__ import annotations

from typing import Any, get_args, get_origin

import msgspec
from hypothesis import strategies as st
from msgspec import Struct

from engine.server.config.configuration import Int32, KubeProxyConfiguration, Uint32
from engine.server.config.decode import with_defaults
from engine.server.config.duration import Duration
from engine.server.config.gates import known_gates
from engine.server.config.quantity import Quantity

WORDS = st.one_of(
    st.sampled_from(
        ["", "yes", "null", "~", "1e3", "08", "12:30:45", "2001-01-01", "0x1f", ".5", "a: b", "- x", "#", "::"]
    ),
    st.text(
        st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co"), exclude_characters="\x85\u2028\u2029\ufeff"),
        max_size=12,
    ),
)
LEAVES: dict[Any, st.SearchStrategy] = {
    str: WORDS,
    bool: st.booleans(),
    float: st.floats(0, 1e6, width=32),
    Duration: st.integers(-(2**63) + 1, 2**63 - 1).map(Duration),
    Quantity: st.integers(0, 10**15 - 1).map(Quantity),
    Int32: st.integers(-(2**31), 2**31 - 1),
    Uint32: st.integers(0, 2**32 - 1),
    dict[str, bool]: st.dictionaries(st.sampled_from(sorted(known_gates())), st.booleans(), max_size=3),
}


def values(kind: Any) -> st.SearchStrategy:
    """Any value of a field's type, by its annotation."""
    if kind in LEAVES:
        return LEAVES[kind]
    if get_origin(kind) is tuple:
        return st.lists(values(get_args(kind)[0]), max_size=3).map(tuple)
    assert issubclass(kind, Struct), kind
    hints = {each.name: each.type for each in msgspec.structs.fields(kind)}
    return st.builds(kind, **{name: values(each) for name, each in hints.items()})


def configurations() -> st.SearchStrategy[KubeProxyConfiguration]:
    """Configurations whose zeros have become defaults, as after reading a file."""
    return values(KubeProxyConfiguration).map(with_defaults)
