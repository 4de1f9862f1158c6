"""Metrics for Prometheus and OpenTelemetry: what they say, and that they cost nobody anything."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from casinductor.errors import CasinductorError
from casinductor.store.format.names import CacheId
from casinductor.store.opening import with_store
from casinductor.store.write.chores import KEPT, last_chores, note_chore
from tests.conftest import Fleet, Tree
from tests.inspect.conftest import Command, note, warmup
from tests.inspect.conftest import run as run
from tests.inspect.conftest import store as store

ROOT = Path(__file__).resolve().parents[1]
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")


@pytest.fixture
def noted(store: Fleet, run: Command) -> Fleet:
    """A store with a warm-up of today, one of long ago, a check and a collection."""
    report = warmup("H100/model/v1", saved_seconds=3.0, spent_seconds=9.0, lost=2)
    report.refused = {"made for sm_80": 4}
    note(store, CacheId("H100", "model/v1"), report)
    run("check", "--note")
    run("gc", "--apply")
    return store


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_what_the_store_and_the_fleet_did(noted: Fleet, run: Command) -> None:
    found = samples(run("metrics", raw=True).stdout)

    def of(name: str, *more: str) -> tuple[str, ...]:
        return (name, "gpu=H100", "key=model/v1", *more)

    assert found["casinductor_store_caches",] == 1
    assert found["casinductor_store_manifests",] == 2
    stats = run("stats")
    assert found["casinductor_store_stored_bytes",] == stats["stored_bytes"]
    assert found[of("casinductor_day_graphs", "result=hit")] == 1
    assert found[of("casinductor_day_graphs", "result=miss")] == 1
    assert found[of("casinductor_day_saved_seconds")] == 3
    assert found[of("casinductor_day_lost_groups")] == 2
    assert found[of("casinductor_day_refused_groups")] == 4
    assert found["casinductor_last_run_problems", "command=check"] == 0
    assert found["casinductor_last_run_timestamp_seconds", "command=gc"] > 1.7e9
    assert found[of("casinductor_cache_own_bytes")] > 0
    assert not [name for name in found if any("host" in part for part in name)]


def test_every_metric_is_documented(noted: Fleet, run: Command) -> None:
    text = run("metrics", raw=True).stdout
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    told = set(re.findall(r"`(casinductor_[a-z_]+)`", OPERATIONS))
    assert names == told


def test_the_dashboard_and_the_alerts_ask_for_what_there_is(noted: Fleet, run: Command) -> None:
    text = run("metrics", raw=True).stdout
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    for file in ("deploy/grafana.json", "deploy/alerts.yaml"):
        asked = set(re.findall(r"casinductor_[a-z_]+", (ROOT / file).read_text("utf-8")))
        assert asked
        assert asked <= names, file


def test_a_textfile_appears_whole(noted: Fleet, run: Command, tmp_path: Path) -> None:
    target = tmp_path / "casinductor.prom"
    assert run("metrics", "--textfile", target, raw=True).stdout == ""
    assert samples(target.read_text()).keys() == samples(run("metrics", raw=True).stdout).keys()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".prom"] == [target.name]
    result = run("metrics", "--textfile", "/nowhere/x.prom", raw=True, status=1)
    assert "cannot write /nowhere/x.prom" in str(result.exception)


def test_only_a_few_notes_stay(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()

    def work(store: Any) -> dict[str, Any]:
        for number in range(KEPT + 4):
            note_chore(store.backend, "check", 1.5, number)
        store.backend.put("chores/check-7ZZZZZZZZZZZZZZZZZZZZZZZZZ", [b"no JSON"])
        return last_chores(store.backend)

    found = with_store(fleet.settings("w"), work)
    assert (found["check"].problems, found["check"].seconds) == (KEPT + 3, 1.5)
    assert len(fleet.files("check-*")) == KEPT + 1


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[InMemorySpanExporter, Any]]:
    """The real SDK, collecting in memory."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing, metering = TracerProvider(), MeterProvider([reader])
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", tracing.get_tracer)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: metering)
    yield exporter, reader
    metering.shutdown()


def points(reader: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = getattr(point, "value", None)
                    found[metric.name] = found.get(metric.name, 0) + (
                        point.count if value is None else value
                    )
                assert f"`{metric.name}`" in OPERATIONS
    return found


def test_opentelemetry_hears_of_restores_and_syncs(fleet: Fleet, spans: Any) -> None:
    exporter, reader = spans
    Tree(fleet.folder / "local/w").model("ab")
    synced = fleet.cache("w").sync()
    restored = fleet.cache("r").restore("all")
    first, second = exporter.get_finished_spans()
    assert (first.name, second.name) == ("casinductor.sync", "casinductor.restore")
    assert first.attributes["casinductor.key"] == "model/v1"
    assert first.attributes["casinductor.bytes_uploaded"] == synced.bytes_uploaded
    assert second.attributes["casinductor.bytes_read"] == restored.bytes_read
    found = points(reader)
    assert found["casinductor.sync.bytes_uploaded"] == synced.bytes_uploaded
    assert found["casinductor.restore.duration"] == found["casinductor.sync.duration"] == 1


def test_a_failed_restore_is_told_too(fleet: Fleet, spans: Any) -> None:
    exporter, _ = spans
    fleet.store.parent.mkdir(parents=True, exist_ok=True)
    fleet.store.write_text("no directory")
    with pytest.raises(CasinductorError):
        fleet.cache("w").restore()
    (span,) = exporter.get_finished_spans()
    assert not span.status.is_ok


def test_nobody_else_pays_for_it(fleet: Fleet) -> None:
    """Where a program has not imported OpenTelemetry, neither do we."""
    Tree(fleet.folder / "local/w").model("ab")
    code = (
        "import sys\n"
        "from casinductor import Cache\n"
        "Cache('m', gpu='H100').sync()\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'prometheus'))])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "PATH": "/usr/bin:/bin",
            "CASINDUCTOR_STORE": str(fleet.store),
            "CASINDUCTOR_LOCAL_DIR": str(fleet.folder / "local/w"),
            "CASINDUCTOR_STATE_DIR": str(fleet.folder / "state"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "[]"
