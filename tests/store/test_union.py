"""A cache is the union of its manifests, whatever the order in which they arrive."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from casinductor.store.index.groups import Version
from casinductor.store.index.union import resolve, winner


def version(group: str, origin: str, content: str, replaces: tuple[str, ...] = ()) -> Version:
    def digest(text: str) -> bytes:
        return text.encode().ljust(32, b".")

    return Version(
        row=hash((group, origin, content)) % 1000,
        manifest=1,
        id=group,
        kind="k",
        rank=0,
        origin=origin,
        content=digest(content),
        demands="{}",
        replaced=b"".join(map(digest, replaces)),
        about="{}",
        published="",
    )


def yes(_: dict[str, Any]) -> None:
    return None


letters = st.sampled_from("abc")
some = st.lists(
    st.builds(
        version,
        letters,
        st.sampled_from("12345"),
        letters,
        st.lists(letters, max_size=2).map(tuple),
    ),
    max_size=12,
)


@given(some, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(found: list[Version], shuffle: random.Random) -> None:
    def outcome(those: list[Version]) -> dict[str, tuple[str, bytes]]:
        groups = resolve(those, yes).groups
        return {group: (v.origin, v.content) for group, v in groups.items()}

    mixed = found + found[: len(found) // 2]
    shuffle.shuffle(mixed)
    assert outcome(mixed) == outcome(found)
    assert outcome(found).keys() == {v.id for v in found}, "no group ever vanishes"


def test_the_first_published_wins() -> None:
    assert winner([version("g", "2", "b"), version("g", "1", "a")]).origin == "1"


def test_a_changed_group_replaces_what_its_producer_had() -> None:
    first = version("g", "1", "old")
    changed = version("g", "2", "new", ("old",))
    independent = version("g", "3", "other")
    assert winner([first, changed]).content.startswith(b"new")
    assert winner([independent, first, changed]).content.startswith(b"new")
    assert winner([first, independent]).content.startswith(b"old")


def test_versions_that_replace_each_other_still_leave_one() -> None:
    one, two = version("g", "1", "a", ("b",)), version("g", "2", "b", ("a",))
    assert winner([one, two]).origin == "1"


def test_refused_versions_do_not_hide_others() -> None:
    narrow = version("g", "2", "narrow")
    wide = version("g", "1", "wide")
    wide = wide._replace(demands='{"isa": "avx512"}')
    result = resolve([wide, narrow], lambda demands: "too wide" if demands else None)
    assert result.groups["g"] is narrow
    assert result.refused == {"too wide": [wide]}
