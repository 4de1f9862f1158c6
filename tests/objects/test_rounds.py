"""How many requests wait for each other: what distance costs, whatever the bandwidth."""

from __future__ import annotations

from pathlib import Path

from casinductor.cache import Cache
from casinductor.settings import Settings
from tests.conftest import Tree, content
from tests.proxy import Proxy, proxied
from tests.servers import BUCKET, Server

#: Long enough that requests sent together are in flight together on a busy machine.
LATENCY = 0.25


def cache(proxy: Proxy, folder: Path, name: str) -> Cache:
    settings = Settings(
        store=f"s3://{BUCKET}/rounds/{folder.name}?endpoint={proxy.endpoint}",
        local_dir=folder / name,
        state_dir=folder / f"{name}-state",
        gpu_type="H100",
    )
    return Cache("one", settings=settings)


def test_a_first_sync_and_a_cold_restore(seaweed: Server, tmp_path: Path) -> None:
    Tree(tmp_path / "w").model("ab")
    with proxied(seaweed.endpoint, LATENCY) as proxy:
        cache(proxy, tmp_path, "w").sync()
        traffic = proxy.reset()
        # FORMAT is missing; two writes and a look find out how to publish; the pack, beside which
        # FORMAT is written; the manifest; tombstones; the pack again: 8. Where a connection is made
        # for one of two that go together they may follow each other, which happens up to thrice.
        assert len(traffic.waiting) <= 11, traffic.waiting
        assert traffic.total == 16
        cache(proxy, tmp_path, "v").restore("all")
        # The listing, beside which the mark of use is looked for; the manifest; the pack, beside
        # which that mark is left where it was missing: 3, or 4 where that waits for a connection.
        traffic = proxy.reset()
        assert len(traffic.waiting) <= 4, traffic.waiting
    assert content(tmp_path / "v").keys() == content(tmp_path / "w").keys()
