"""Keys, and fleets whose workers hold some of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.reports.transfer import SyncReport
from casinductor.settings import Settings
from casinductor.store.opening import with_fresh_store
from casinductor.store.store import Store
from casinductor.trust.pair import new_pair
from tests.conftest import Fleet, Tree, content
from tests.needs import need_package

T = TypeVar("T")


@dataclass
class Signed:
    """A fleet, and the keys of those who have to do with it."""

    fleet: Fleet
    folder: Path
    trusted: list[str] = field(default_factory=lambda: ["ci"])

    def key(self, name: str, *caches: str) -> str:
        """The path of this one's private key, made when it is asked for first."""
        path = self.folder / name
        if not path.exists():
            new_pair(str(path), "ed25519", name, caches)
        return str(path)

    def keyring(self) -> str:
        """A file of the trusted public keys."""
        keys = "\n".join(Path(self.key(name) + ".pub").read_text() for name in self.trusted)
        (self.folder / "keyring.pem").write_text(keys)
        return str(self.folder / "keyring.pem")

    def settings(self, worker: str, signer: str | None, *, believes: bool = True) -> Settings:
        """Of a worker that signs as ``signer`` and, or not, believes the trusted keys only."""
        return replace(
            self.fleet.settings(worker),
            signing_key=self.key(signer) if signer else None,
            trusted_keys=self.keyring() if believes else None,
        )

    def publish(
        self, name: str, signer: str | None, key: str = "model/v1", *, believes: bool = True
    ) -> SyncReport:
        """Somebody compiles the model of this name and syncs."""
        worker = f"{name}-{signer}-{time.time_ns()}"
        Tree(self.fleet.folder / "local" / worker, seed=sum(map(ord, name))).model(name)
        return Cache(key, settings=self.settings(worker, signer, believes=believes)).sync()

    def restored(self, key: str = "model/v1", *, believes: bool = True) -> set[str]:
        """The names of the models that a fresh worker gets."""
        worker = f"reader-{time.time_ns()}"
        Cache(key, settings=self.settings(worker, None, believes=believes)).restore("all")
        files = content(self.fleet.folder / "local" / worker)
        return {path.split("/")[1] for path in files if path.startswith("fxgraph/")}

    def run(
        self, work: Callable[[Store], T], signer: str | None = None, *, believes: bool = True
    ) -> T:
        """Work on the store as somebody."""
        return with_fresh_store(self.settings("somebody", signer, believes=believes), work)


@pytest.fixture
def signed(fleet: Fleet, tmp_path: Path) -> Signed:
    need_package("securesystemslib", "casinductor[signing]")
    folder = tmp_path / "keys"
    folder.mkdir()
    return Signed(fleet, folder)
