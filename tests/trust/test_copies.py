"""Copies of signed caches: what was not believed stays behind, and who copies vouches for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.errors import Untrusted
from casinductor.store.format.names import CacheId
from casinductor.store.maintain.copying import CopyReport, copy_cache
from casinductor.store.opening import with_store
from tests.conftest import content
from tests.trust.conftest import Signed

V1 = CacheId("H100", "model/v1")


def copied(signed: Signed, target: Path, signer: str | None) -> CopyReport:
    origin = signed.settings("copier", signer)
    there = replace(origin, store=str(target))
    return with_store(origin, lambda s: with_store(there, lambda t: copy_cache(s, t, V1)))


def read(signed: Signed, store: Path, *trusted: str) -> set[str]:
    signed.trusted = list(trusted)
    settings = replace(signed.settings(f"reader-{trusted}", None), store=str(store))
    Cache("model/v1", settings=settings).restore("all")
    files = content(Path(settings.local_dir))
    return {path.split("/")[1] for path in files if path.startswith("fxgraph/")}


def test_only_what_is_believed_is_copied_and_signed_anew(signed: Signed, tmp_path: Path) -> None:
    signed.publish("ab", "ci")
    signed.publish("cd", "mallory", believes=False)
    signed.publish("ef", None, believes=False)
    signed.key("mirror")
    signed.trusted = ["ci", "mirror"]
    report = copied(signed, tmp_path / "mirror", "mirror")
    assert report.groups == 5
    assert read(signed, tmp_path / "mirror", "mirror") == {"ab"}
    assert read(signed, tmp_path / "mirror", "ci") == set()


def test_who_has_no_key_copies_nothing_that_would_be_believed(
    signed: Signed, tmp_path: Path
) -> None:
    signed.publish("ab", "ci")
    with pytest.raises(Untrusted):
        copied(signed, tmp_path / "mirror", None)
    assert not list((tmp_path / "mirror").rglob("*.manifest"))
