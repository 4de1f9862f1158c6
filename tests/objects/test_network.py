"""Faults between a client and a real object store: nothing is lost and the deadline holds."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from casinductor.cache import Cache
from casinductor.errors import CasinductorError, NameTaken, StoreUnavailable
from casinductor.settings import Settings
from casinductor.store.backend import Backend
from casinductor.store.backends.address import open_backend
from casinductor.toolkit import load_inductor_cache, sync_inductor_cache
from tests.conftest import ObjectFleet, Tree, content
from tests.proxy import Fate, Proxy, Request, proxied, sometimes
from tests.servers import BUCKET, Server

LARGE = 9 << 20  # more than one range of a comparison


@pytest.fixture
def proxy(seaweed: Server) -> Iterator[Proxy]:
    with proxied(seaweed.endpoint) as running:
        yield running


@pytest.fixture
def backend(proxy: Proxy, tmp_path: Path) -> Backend:
    return open_backend(f"s3://{BUCKET}/net/{tmp_path.name}?endpoint={proxy.endpoint}", 10.0)


def once(fate: Fate, method: str, at: int = 0) -> object:
    """That fate for one request of a method, counted from when this is set."""
    seen: list[Request] = []

    def choose(request: Request) -> Fate:
        if request.method == method:
            seen.append(request)
            if len(seen) == at + 1:
                return fate
        return "pass"

    return choose


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize("fate", ["lose", "reset", "refuse"])
def test_a_write_whose_reply_is_lost_succeeded(
    proxy: Proxy, backend: Backend, fate: Fate, size: int
) -> None:
    proxy.fate = once(fate, "PUT")  # type: ignore[assignment]
    data = os.urandom(size)
    assert backend.put("a/name", [data]) == size
    assert backend.get("a/name") == data
    assert proxy.traffic.fates[fate] == 1
    with pytest.raises(NameTaken):
        backend.put("a/name", [os.urandom(size)])


def test_a_lost_reply_is_no_victory_over_another_writer(proxy: Proxy, backend: Backend) -> None:
    """Another writer has the name; our retried PUT must not take the object for its own."""
    backend.put("a/name", [b"theirs"])
    proxy.fate = once("lose", "PUT")  # type: ignore[assignment]
    with pytest.raises(NameTaken):
        backend.put("a/name", [b"mine!!"])
    assert backend.get("a/name") == b"theirs"


@pytest.mark.parametrize("fate", ["lose", "reset", "refuse"])
def test_a_read_that_breaks_off_is_read_again(proxy: Proxy, backend: Backend, fate: Fate) -> None:
    data = os.urandom(LARGE)
    backend.put("a/name", [data])
    for at in (0, 1):
        proxy.fate = once(fate, "GET", at)  # type: ignore[assignment]
        assert backend.get("a/name") == data
        assert list(backend.get_ranges("a/name", [(5, LARGE - 9)])) == [data[5:-4]]
        assert [item.name for item in backend.list("a/")] == ["a/name"]


def test_a_server_that_refuses_everything_is_named(proxy: Proxy, tmp_path: Path) -> None:
    proxy.fate = lambda request: "refuse"
    address = f"s3://{BUCKET}/net/x?endpoint={proxy.endpoint}"
    backend = open_backend(address, 2.0)
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"503.*SlowDown|{proxy.endpoint}") as raised:
        backend.get("FORMAT")
    assert proxy.endpoint in str(raised.value)
    assert "\n" not in str(raised.value)
    assert time.monotonic() - start < 10


def cache_through(proxy: Proxy, folder: Path, worker: str, **more: object) -> Cache:
    settings = Settings(
        store=f"s3://{BUCKET}/net/{folder.name}?endpoint={proxy.endpoint}",
        local_dir=folder / "local" / worker,
        gpu_type="H100",
        state_dir=folder / "state" / worker,
    )
    return Cache("m", settings=msgspec.structs.replace(settings, **more))


FATES: dict[str, dict[Fate, float]] = {
    "lost replies": {"lose": 0.15},
    "resets": {"reset": 0.15},
    "503 storm": {"refuse": 0.3},
    "everything": {"lose": 0.06, "reset": 0.06, "refuse": 0.1},
}


@pytest.mark.parametrize("weather", FATES)
def test_workers_in_bad_weather_lose_nothing(proxy: Proxy, tmp_path: Path, weather: str) -> None:
    """What was acknowledged is restored once the weather clears; until then workers go on."""
    moments = random.Random(weather)
    acknowledged: set[str] = set()
    for number, name in enumerate(["ab", "cd", "ef", "gh", "ij", "kl"]):
        proxy.fate = sometimes(FATES[weather], moments.random)
        made = Tree(tmp_path / "local" / name, seed=number).model(name)
        try:
            cache_through(proxy, tmp_path, name, sync_deadline=20.0).sync()
            acknowledged |= made.content().keys()
        except CasinductorError as error:
            assert proxy.endpoint in str(error)
        reader = cache_through(proxy, tmp_path, f"r{name}", restore_deadline=20.0)
        try:
            reader.restore("all")
        except CasinductorError as error:
            assert len(str(error).splitlines()) == 1
    assert acknowledged, "not one sync got through"
    assert sum(n for fate, n in proxy.traffic.fates.items() if fate != "pass") > 5
    proxy.fate = lambda request: "pass"
    report = cache_through(proxy, tmp_path, "end").restore("all")
    assert report.lost == 0
    assert acknowledged <= content(tmp_path / "local/end").keys()


def test_a_store_that_stalls_costs_the_deadline(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toolkit's functions give up in time and the worker compiles."""
    Tree(tmp_path / "local/w").model("ab")
    cache_through(proxy, tmp_path, "w").sync()
    monkeypatch.setenv("CASINDUCTOR_STORE", cache_through(proxy, tmp_path, "w").settings.store)
    monkeypatch.setenv("CASINDUCTOR_LOCAL_DIR", str(tmp_path / "local/v"))
    monkeypatch.setenv("CASINDUCTOR_STATE_DIR", str(tmp_path / "state/v"))
    monkeypatch.setenv("CASINDUCTOR_GPU_TYPE", "H100")
    monkeypatch.setenv("CASINDUCTOR_RESTORE_DEADLINE", "1.5")
    monkeypatch.setenv("CASINDUCTOR_SYNC_DEADLINE", "1.5")
    proxy.fate = lambda request: "stall"  # from now on no request is answered
    start = time.monotonic()
    before = load_inductor_cache("m")
    Tree(tmp_path / "local/v", seed=1).model("cd")
    sync_inductor_cache("m", before)
    assert 2.9 < time.monotonic() - start < 6
    proxy.fate = lambda request: "pass"
    assert cache_through(proxy, tmp_path, "end").restore("all").lost == 0
    assert len(content(tmp_path / "local/end")) == 8


def test_stalls_now_and_then_are_outlived(proxy: Proxy, tmp_path: Path) -> None:
    """One stalled request of many is tried again in time."""
    Tree(tmp_path / "local/w").model("ab")
    cache_through(proxy, tmp_path, "w").sync()
    proxy.fate = once("stall", "GET", 1)  # type: ignore[assignment]
    report = cache_through(proxy, tmp_path, "v", restore_deadline=12.0).restore("all")
    assert report.files_written == 8
    assert proxy.traffic.fates["stall"] == 1


@pytest.mark.parametrize("milliseconds", [1, 20, 200])
def test_latency_costs_few_round_trips(proxy: Proxy, tmp_path: Path, milliseconds: int) -> None:
    for number, name in enumerate(["ab", "cd", "ef"]):
        Tree(tmp_path / "local" / name, seed=number).model(name)
        cache_through(proxy, tmp_path, name).sync()
    proxy.reset()
    proxy.latency = milliseconds / 1000
    report = cache_through(proxy, tmp_path, "v").restore("all")
    assert report.files_written == 24
    traffic = proxy.reset()
    # One listing, three manifests, three packs, the mark of use; all but the first side by side.
    assert traffic.total <= 10, traffic


def test_every_worker_of_a_fleet_through_one_bad_line(
    proxy: Proxy, seaweed: Server, tmp_path: Path
) -> None:
    """The bad line is one worker's own: the others, who have a good one, see only whole things."""
    fleet = ObjectFleet(tmp_path, seaweed)
    Tree(tmp_path / "local/w").model("ab")
    fleet.cache("w", "m").sync()
    url = f"s3://{BUCKET}/t/{tmp_path.name}?endpoint={proxy.endpoint}"
    proxy.fate = sometimes({"lose": 0.2, "reset": 0.2}, random.Random(7).random)
    for number in range(5):
        made = Tree(tmp_path / f"local/b{number}", seed=number).model("cdefg"[number] * 2)
        settings = msgspec.structs.replace(
            fleet.settings(f"b{number}"), store=url, sync_deadline=10.0
        )
        acknowledged = True
        try:
            Cache("m", settings=settings).sync()
        except CasinductorError:
            acknowledged = False
        report = fleet.cache(f"good{number}", "m").restore("all")
        assert report.lost == 0
        assert report.damage == []
        if acknowledged:
            assert made.content().keys() <= content(tmp_path / f"local/good{number}").keys()
