"""Two tenants on one store: blobs are shared, believing is not."""

from __future__ import annotations

import pytest

from casinductor.errors import Untrusted
from casinductor.store.format.names import CacheId
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from casinductor.store.stats import figures
from tests.trust.conftest import Signed

A, B = "team-a/model", "team-b/model"


@pytest.fixture
def tenants(signed: Signed) -> Signed:
    """Keys that are each for one tenant's caches, and what both compiled: the same model."""
    signed.key("a", "*/team-a/*")
    signed.key("b", "*/team-b/*")
    signed.trusted = ["a", "b"]
    signed.publish("ab", "a", A)
    signed.publish("ab", "b", B)
    return signed


def test_what_both_compiled_is_stored_once(tenants: Signed) -> None:
    found = tenants.run(lambda store: figures(store, None))
    one = tenants.run(lambda store: figures(store, CacheId("H100", A)))
    assert found.caches == 2
    assert found.logical_bytes == 2 * one.logical_bytes
    assert found.unique_bytes == one.unique_bytes


def test_nobody_publishes_for_the_other(tenants: Signed) -> None:
    with pytest.raises(Untrusted):
        tenants.publish("cd", "a", B)
    assert tenants.restored(B) == {"ab"}
    # Without keys to tell it so, a worker signs what it may not; nobody believes it.
    tenants.publish("ef", "a", B, believes=False)
    assert tenants.restored(B) == {"ab"}


def test_one_leaves_and_the_other_keeps_everything(tenants: Signed) -> None:
    from casinductor.store.maintain.removal import remove

    tenants.publish("cd", "b", B)
    tenants.run(lambda store: remove(store, CacheId("H100", A)), "a")
    tenants.key("janitor")
    tenants.trusted.append("janitor")
    report = tenants.run(
        lambda store: collect(store, apply=True, min_age_seconds=0, grace=0), "janitor"
    )
    assert report.problems == []
    assert tenants.restored(A) == set()
    assert tenants.restored(B) == {"ab", "cd"}


def test_each_compacts_its_own(tenants: Signed) -> None:
    tenants.publish("cd", "b", B)
    tenants.run(lambda store: compact(store, CacheId("H100", B), grace=0), "b")
    with pytest.raises(Untrusted):
        tenants.publish("gh", "b", A)
        tenants.run(lambda store: compact(store, CacheId("H100", A), grace=0), "b")
    assert tenants.restored(A) == {"ab"}
    assert tenants.restored(B) == {"ab", "cd"}
