"""Each attack succeeds on workers without keys and fails on those with them."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.errors import CasinductorError, Untrusted
from casinductor.store.format.frame import split
from casinductor.store.format.names import CacheId
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from casinductor.store.maintain.hiding import hide
from casinductor.store.maintain.removal import remove, undelete
from casinductor.store.maintain.retention import Policy
from casinductor.store.verify.repair import repair
from casinductor.trust import envelope
from casinductor.trust.keys import load_keys
from tests.conftest import Tree
from tests.trust.conftest import Signed

CACHE = CacheId("H100", "model/v1")


def manifests(signed: Signed, key: str = "model/v1") -> list[Path]:
    return sorted((signed.fleet.store / "manifests" / "H100" / key).glob("*.manifest"))


def newest(signed: Signed, before: list[Path], key: str = "model/v1") -> Path:
    (found,) = set(manifests(signed, key)) - set(before)
    return found


def plant(signed: Signed, signer: str | None) -> Path:
    """A manifest that somebody publishes whom nobody trusts."""
    before = manifests(signed)
    signed.publish("xx", signer, believes=False)
    return newest(signed, before)


def forge(path: Path, told: dict[str, object]) -> None:
    """Give a manifest an envelope of one's own."""
    container, _ = split(path.read_bytes())
    path.write_bytes(container + json.dumps(told).encode())


def unsigned(signed: Signed) -> None:
    signed.publish("xx", None, believes=False)


def signed_by_a_stranger(signed: Signed) -> None:
    signed.publish("xx", "mallory", believes=False)


def signature_of_another_manifest(signed: Signed) -> None:
    (good,) = manifests(signed)
    _, told = split(good.read_bytes())
    planted = plant(signed, None)
    planted.write_bytes(planted.read_bytes() + told)


def statement_replaced(signed: Signed) -> None:
    """The key's signature, over another statement than the one that it signed."""
    (good,) = manifests(signed)
    told = json.loads(split(good.read_bytes())[1])
    planted = plant(signed, None)
    name = str(planted.relative_to(signed.fleet.store))
    said = envelope.statement(name, planted.read_bytes())
    forge(planted, {**told, "payload": base64.b64encode(said).decode()})


def key_confusion(signed: Signed) -> None:
    """A stranger's signature that names the trusted key."""
    planted = plant(signed, "mallory")
    told = json.loads(split(planted.read_bytes())[1])
    (trusted,) = load_keys(signed.keyring())
    told["signatures"][0]["keyid"] = trusted.keyid
    forge(planted, told)


def no_key_named(signed: Signed) -> None:
    """DSSE's key ids are hints: a signature that names none is tried by all keys."""
    planted = plant(signed, "mallory")
    told = json.loads(split(planted.read_bytes())[1])
    told["signatures"][0]["keyid"] = ""
    forge(planted, told)


def another_kind_of_payload(signed: Signed) -> None:
    planted = plant(signed, None)
    forge(planted, {"payload": "", "payloadType": "text/plain", "signatures": []})


def truncated_envelope(signed: Signed) -> None:
    before = manifests(signed)
    signed.publish("xx", "ci")
    planted = newest(signed, before)
    planted.write_bytes(planted.read_bytes()[:-40])


def key_of_another_cache(signed: Signed) -> None:
    """Somebody who is trusted, but not for this cache."""
    signed.key("team", "H100/team/*")
    signed.trusted.append("team")
    signed.publish("xx", "team", believes=False)


PLANTS = [
    unsigned,
    signed_by_a_stranger,
    signature_of_another_manifest,
    statement_replaced,
    key_confusion,
    no_key_named,
    another_kind_of_payload,
    truncated_envelope,
    key_of_another_cache,
]


@pytest.mark.parametrize("attack", PLANTS, ids=lambda attack: str(attack.__name__))
def test_what_is_planted_runs_without_keys_only(
    signed: Signed, attack: Callable[[Signed], None]
) -> None:
    signed.publish("ab", "ci")
    attack(signed)
    assert signed.restored(believes=False) == {"ab", "xx"}
    assert signed.restored() == {"ab"}


def test_a_signed_manifest_of_another_cache(signed: Signed) -> None:
    signed.publish("xx", "ci", key="other/v1")
    (theirs,) = manifests(signed, "other/v1")
    folder = signed.fleet.store / "manifests" / "H100" / "model" / "v1"
    folder.mkdir(parents=True)
    shutil.copy(theirs, folder)
    with pytest.raises(CasinductorError, match=r"belongs to|not believed"):
        Cache("model/v1", settings=signed.settings("w", None)).restore()


def test_a_revoked_key(signed: Signed) -> None:
    signed.publish("ab", "ci")
    signed.trusted.append("old")
    signed.publish("xx", "old")
    assert signed.restored() == {"ab", "xx"}
    keys = {key.name: key for key in load_keys(signed.keyring())}
    settings = replace(signed.settings("w", None), revoked_keys=keys["old"].keyid)
    report = Cache("model/v1", settings=settings).restore("all")
    assert report.untrusted == {"signed by a revoked key": 1}
    assert "1 manifest not believed: signed by a revoked key" in report.summary()
    settings = replace(signed.settings("w2", "old"), revoked_keys=signed.key("old") + ".pub")
    Tree(settings.local_dir).model("cd")
    with pytest.raises(Untrusted, match="is revoked"):
        Cache("model/v1", settings=settings).sync()


def test_a_removal_by_a_stranger_hides_nothing(signed: Signed) -> None:
    signed.publish("ab", "ci")
    with pytest.raises(Untrusted, match="is signed"):
        signed.run(lambda store: remove(store, CACHE), believes=False)  # we would not
    signed.trusted = ["mallory"]
    signed.run(lambda store: remove_blindly(store), "mallory")
    signed.trusted = ["ci"]
    assert signed.restored() == {"ab"}
    collected = signed.run(lambda store: collect(store, apply=True, min_age_seconds=0.0))
    assert not collected.problems
    assert signed.restored() == {"ab"}


def remove_blindly(store: object) -> None:
    """A removal that names manifests of somebody else, as an attacker would write it."""
    from casinductor.store.index.places import Unusable
    from casinductor.store.store import Store
    from casinductor.store.write.draft import Draft
    from casinductor.store.write.publish import Source, publish

    assert isinstance(store, Store)
    store.refresh()
    old = [name.ulid for name in store.catalog.foreign.known()]
    assert old
    draft = Draft(store, None, Unusable())
    publish(store, CACHE, draft, Source(iter(()), list, replaced=old))


def test_a_replayed_removal_hides_nothing_again(signed: Signed) -> None:
    signed.publish("ab", "ci")
    before = manifests(signed)
    signed.run(lambda store: remove(store, CACHE), "ci")
    removal = newest(signed, before)
    kept = removal.read_bytes()
    assert signed.restored() == set()
    signed.run(lambda store: undelete(store, CACHE), "ci")
    assert signed.restored() == {"ab"}
    removal.write_bytes(kept)
    assert signed.restored() == {"ab"}


def test_a_swapped_pack_is_damage(signed: Signed) -> None:
    signed.publish("ab", "ci")
    (pack,) = signed.fleet.files("*.pack")
    before = {pack}
    signed.publish("xx", None, believes=False)
    (other,) = set(signed.fleet.files("*.pack")) - before
    data = bytearray(other.read_bytes())
    pack.write_bytes(bytes(data[: pack.stat().st_size].ljust(pack.stat().st_size, b"\0")))
    assert signed.restored() == set()


@pytest.mark.parametrize("signer", [None, "ci"])
def test_a_collector_with_the_public_keys_loses_nothing_to_strangers(
    signed: Signed, signer: str | None
) -> None:
    """Newer, unsigned syncs do not push signed ones out, whatever the rule."""
    signed.publish("ab", "ci")
    for name in ("xx", "yy", "zz"):
        signed.publish(name, "mallory", believes=False)
    policy = Policy(within=0.0, last=1, max_bytes=200_000)
    report = signed.run(
        lambda store: collect(store, policy, apply=True, min_age_seconds=0.0), signer
    )
    assert not report.problems
    assert signed.restored() == {"ab"}
    assert signed.restored(believes=False) == {"ab", "xx", "yy", "zz"}  # perhaps somebody's


def test_a_collector_without_the_public_keys_does_not_begin(signed: Signed) -> None:
    signed.publish("ab", "ci")
    for work in (
        lambda store: collect(store, apply=True),
        lambda store: compact(store, CACHE),
        lambda store: repair(store, from_packs=True),
    ):
        with pytest.raises(Untrusted, match="CASINDUCTOR_TRUSTED_KEYS"):
            signed.run(work, believes=False)
    assert signed.restored() == {"ab"}


def test_what_cannot_be_moved_without_a_key_stays(signed: Signed) -> None:
    for name in ("ab", "cd"):
        signed.publish(name, "ci")
    for pack in signed.fleet.files("*.pack"):  # tombstones that somebody planted
        (signed.fleet.store / "condemned").mkdir(exist_ok=True)
        (signed.fleet.store / "condemned" / pack.stem).write_bytes(b"")
    report = signed.run(lambda store: collect(store, apply=True, min_age_seconds=0.0, grace=0.0))
    assert any("CASINDUCTOR_SIGNING_KEY is not" in problem for problem in report.problems)
    assert signed.restored() == {"ab", "cd"}
    report = signed.run(
        lambda store: collect(store, apply=True, min_age_seconds=0.0, grace=0.0), "ci"
    )
    assert not report.problems
    assert not list((signed.fleet.store / "condemned").iterdir())
    assert signed.restored() == {"ab", "cd"}


def test_what_a_merge_makes_is_signed_and_mixes_nothing(signed: Signed) -> None:
    for number, name in enumerate(("ab", "cd", "ef")):
        signed.publish(name, "ci")
        signed.publish(f"x{'xyz'[number]}", None, believes=False)
    signed.run(lambda store: compact(store, CACHE, grace=0.0), "ci")
    assert signed.restored() == {"ab", "cd", "ef"}
    assert signed.restored(believes=False) == {"ab", "cd", "ef", "xx", "xy", "xz"}
    with pytest.raises(Untrusted):
        signed.publish("gh", "ci")  # something to compact again
        signed.run(lambda store: compact(store, CACHE, grace=0.0))


def test_nothing_is_rebuilt_from_packs(signed: Signed) -> None:
    """An outline in a pack is nobody's word."""
    signed.publish("ab", "ci")
    before = manifests(signed)
    signed.publish("xx", None, believes=False)
    newest(signed, before).unlink()
    signed.run(lambda store: repair(store, from_packs=True), "ci")
    assert signed.restored() == {"ab"}


def test_blobs_of_strangers_are_not_relied_on(signed: Signed) -> None:
    """The same model published unsigned first: a signed sync stores its own copy."""
    signed.publish("ab", None, believes=False)
    packs = set(signed.fleet.files("*.pack"))
    report = signed.publish("ab", "ci")
    assert report.groups_added
    for pack in packs:
        pack.unlink()
    assert signed.restored() == {"ab"}


def test_a_zip_is_not_read(signed: Signed) -> None:
    tree = Tree(signed.fleet.folder / "zipped", seed=3).model("xx")
    folder = signed.fleet.store / "H100" / "model"
    folder.mkdir(parents=True)
    shutil.make_archive(str(folder / "v1"), "zip", tree.root)
    assert signed.restored(believes=False) == {"xx"}
    assert signed.restored() == set()


def test_hidden_by_a_stranger_is_not_hidden(signed: Signed) -> None:
    signed.publish("ab", "ci")
    signed.trusted = ["mallory"]
    signed.publish("ab", "mallory")
    signed.run(lambda store: hide(store, CACHE, lambda version: True), "mallory")
    signed.trusted = ["ci"]
    assert signed.restored() == {"ab"}


def test_a_worker_that_believed_everybody_forgets_it(signed: Signed) -> None:
    """Its catalog was written before the keys were set."""
    signed.publish("ab", "ci")
    unsigned(signed)
    worker = f"w-{time.time_ns()}"
    settings = signed.settings(worker, None, believes=False)
    Cache("model/v1", settings=settings).restore("all")
    shutil.rmtree(settings.local_dir)
    report = Cache("model/v1", settings=signed.settings(worker, None)).restore("all")
    assert report.untrusted == {"not signed": 1}
    found = {path.name for path in settings.local_dir.glob("fxgraph/*")}
    assert found == {"ab"}
