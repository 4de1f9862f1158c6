"""inspect, kernels, show, diff and catalog on a synthetic store and on the CUDA corpus."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pygments.lexers import get_lexer_by_name
from pygments.token import Error

from casinductor.cli.mlir import MlirLexer
from casinductor.errors import CacheNotFound, Compiled, InvalidName, LocalDirectory
from casinductor.inspect.schema import TABLES
from casinductor.inspect.show import FORMS
from casinductor.reports.warmup import Happened
from casinductor.store.format.names import CacheId
from tests.conftest import Fleet, Tree
from tests.inspect.conftest import Command, components, note, warmup

DOC = (Path(__file__).resolve().parents[2] / "docs/catalog.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", DOC, re.DOTALL)


@pytest.fixture
def cuda(fleet: Fleet, corpus: Path, run: Command) -> Fleet:
    """Real CUDA trees, each under a key of its own."""
    for tree in ("llama8-v1", "llama8-v2", "maxautotune_mlp-cold1"):
        run("push", tree, "--from", corpus / f"cuda-{tree}")
    return fleet


def test_graphs_of_a_cache(store: Fleet, run: Command) -> None:
    rows = run("inspect", "model/v1")
    assert [row["seconds"] for row in rows] == [9.0, 3.0]
    assert [row["guards"] for row in rows] == ["s0 < 64", ""]
    assert rows[1]["kernels"] == 1
    assert rows[0]["inputs"] == 1
    assert all(row["host"] and row["made_ms"] and row["origin"] for row in rows)
    (slow,) = run("inspect", "model/v1", "--filter", "seconds>5")
    assert slow["guards"] == "s0 < 64"
    assert run("inspect", "model/v1", "--filter", "guards=none*") == []
    by_size = run("inspect", "model/v1", "--sort", "bytes", "--limit", "1")
    assert by_size[0]["bytes"] == max(row["bytes"] for row in rows)
    table = run("inspect", "model/v1", raw=True).stdout
    assert "s0 < 64" in table
    wrong = run("inspect", "model/v1", "--sort", "colour", status=2)
    assert "no column 'colour'" in wrong.output
    with pytest.raises(CacheNotFound):
        run("inspect", "nothing")


def test_use_is_counted_from_warmups(store: Fleet, run: Command) -> None:
    first, second = (bytes.fromhex(row["content"])[:8] for row in run("inspect", "model/v1"))
    for used, unused in ((first, second), (b"", first + second)):
        report = warmup("H100/model/v1", used=used, unused=unused)
        note(store, CacheId("H100", "model/v1"), report)
    rows = run("inspect", "model/v1")
    assert [(row["used"], row["restored"]) for row in rows] == [(1, 2), (0, 2)]


def test_cpp_kernels_find_their_graph(store: Fleet, run: Command) -> None:
    rows = {row["name"]: row for row in run("kernels", "model/v1", "--filter", "kind=cpp")}
    assert rows["cpp_fused_cos_0"]["graphs"] == ["f" + ("ab" * 60)[:51]]
    assert len(rows) == 2


def test_real_kernels(cuda: Fleet, run: Command) -> None:
    rows = run("kernels", "maxautotune_mlp-cold1")
    assert len(rows) == 29
    chosen = [row for row in rows if row["chosen"]]
    assert len(chosen) == 6
    assert all(row["config"]["num_warps"] == row["warps"] for row in chosen)
    assert all(row["variants"] > 1 and row["graphs"] for row in chosen)
    worst = run("kernels", "maxautotune_mlp-cold1", "--sort", "registers", "--limit", "3")
    assert worst[0]["registers"] == max(row["registers"] for row in rows)


def test_show_prints_the_stored_text(cuda: Fleet, run: Command, corpus: Path) -> None:
    folder = next((corpus / "cuda-maxautotune_mlp-cold1/triton/0").iterdir())
    stem = next(folder.glob("*.cubin")).stem
    for form in ("ptx", "ttir", "ttgir", "llir", "source"):
        shown = run("show", folder.name[:10], form)
        assert shown["text"] == (folder / f"{stem}.{form}").read_text()
    (graph,) = run("inspect", "llama8-v1", "--filter", "kind=fxgraph")
    code = run("show", graph["key"][:10])["text"]
    assert code.startswith("# AOT ID")
    assert "def forward" in run("show", graph["key"], "source")["text"]
    assert "inductor_config[" in run("show", graph["key"], "key")["text"]
    plain = run("show", graph["key"][:10], raw=True).stdout
    assert plain == code + "\n"
    wrong: list[tuple[str, str | None, type[Exception]]] = [
        ("zzzz", None, CacheNotFound),
        ("ab", None, InvalidName),
        (folder.name[:9], "guards", InvalidName),
        ("triton", None, CacheNotFound),
    ]
    for name, wanted, error in wrong:
        with pytest.raises(error):
            run("show", name, *([wanted] if wanted else []))


def test_every_form_is_coloured_without_errors(corpus: Path) -> None:
    folder = next((corpus / "cuda-maxautotune_mlp-cold1/triton/0").iterdir())
    for form in ("ttir", "ttgir", "ptx", "llir"):
        text = next(folder.glob(f"*.{form}")).read_text()
        lexer = MlirLexer() if FORMS[form] == "mlir" else get_lexer_by_name(FORMS[form])
        tokens = list(lexer.get_tokens(text))
        assert "".join(value for _, value in tokens).strip() == text.strip()
        errors = sum(len(value) for kind, value in tokens if kind is Error)
        assert errors <= (0 if FORMS[form] == "mlir" else len(text) // 20)


def test_diff_accounts_for_everything(cuda: Fleet, run: Command) -> None:
    found = run("diff", "llama8-v1", "H100/llama8-v2")
    kernels = {
        tree: run("kernels", tree, "--filter", "kind=triton") for tree in ("llama8-v1", "llama8-v2")
    }
    counts: dict[tuple[str, str], int] = {}
    for change in found["changes"]:
        name = (change["what"], change["status"])
        counts[name] = counts.get(name, 0) + 1
    changed = counts.get(("kernel", "changed"), 0)
    went = counts.get(("kernel", "went"), 0)
    appeared = counts.get(("kernel", "appeared"), 0)
    assert found["same_kernels"] + changed + went == len(kernels["llama8-v1"])
    assert found["same_kernels"] + changed + appeared == len(kernels["llama8-v2"])
    (graph,) = [c for c in found["changes"] if c["what"] == "graph" and c["name"] == "fxgraph"]
    assert graph["status"] == "changed"
    assert graph["how"][0].startswith("graph code: neg_2 = ")
    (same,) = [run("diff", "llama8-v1", "llama8-v1")]
    assert same["changes"] == []


def test_diff_of_manifests_and_versions(store: Fleet, run: Command) -> None:
    origins = sorted({row["origin"] for row in run("inspect", "model/v1")})
    one, two = (f"model/v1@{ulid}" for ulid in origins)
    found = run("diff", one, two)
    (graph,) = [change for change in found["changes"] if change["what"] == "graph"]
    assert graph["how"] == [
        "inductor_config[epilogue_fusion]: True -> False",
    ]
    with pytest.raises(CacheNotFound, match="torch=9"):
        run("diff", "model/v1", "model/v1@torch=9")
    torch = run("inspect", "model/v1")[0]["torch"].split(" ")[0]
    assert run("diff", "model/v1", f"model/v1@torch={torch}")["changes"] == []


def test_explain_between_places(store: Fleet, run: Command) -> None:
    keys = {row["guards"]: row["key"] for row in run("inspect", "model/v1")}
    found = run("explain", keys["s0 < 64"][:12], keys[""][:12])
    assert found["causes"][0]["text"] == "inductor_config[epilogue_fusion]: True -> False"
    back = run("explain", keys[""], keys["s0 < 64"])
    assert back["causes"][0]["text"] == "inductor_config[epilogue_fusion]: False -> True"
    found = run("explain", store.folder / "local/two", store.folder / "local/one")
    assert found["causes"][0]["kind"] == "config"
    assert run("explain", store.folder / "local/one", "model/v1")["causes"] == []
    text = run("explain", keys["s0 < 64"], keys[""], raw=True).stdout
    assert "What to do: set this option to one value" in text
    with pytest.raises(CacheNotFound):
        run("explain", "model/v1")
    with pytest.raises(InvalidName, match="no directory"):
        run("explain", "/nowhere", "model/v1")


def test_explain_a_run_on_record(store: Fleet, run: Command) -> None:
    cache = CacheId("H100", "model/v1")
    slow = next(row for row in run("inspect", "model/v1") if row["guards"])
    ulid = note(store, cache, warmup(str(cache), manifest=slow["origin"]))
    found = run("explain", "model/v1")
    assert found["record"] == ulid
    kinds = [cause["kind"] for cause in found["causes"]]
    assert sorted(kinds) == ["config", "moved torch"]
    assert all(cause["advice"] for cause in found["causes"])
    (graph,) = found["graphs"]
    assert graph["known"]
    assert "H100/model/v1" in graph["nearest"]
    assert run("explain", "model/v1", "--worker", "worker-1")["record"] == ulid
    with pytest.raises(CacheNotFound, match="worker other"):
        run("explain", "model/v1", "--worker", "other")
    unknown = warmup(str(cache), happened=warmup("x").happened[1:])
    unknown.happened[0].key = "f" + "z" * 51
    note(store, cache, unknown)
    (graph,) = run("explain", "model/v1")["graphs"]
    assert not graph["known"]
    assert "not stored" in graph["causes"][0]["text"]


@pytest.mark.parametrize("traced", [True, False])
def test_lookups_that_left_nothing_are_named(store: Fleet, run: Command, traced: bool) -> None:
    cache = CacheId("H100", "model/v1")
    happened = [Happened("fxgraph", "hit", "f" + "y" * 51)]
    happened += [Happened("aotautograd", "miss", "a" + "z" * 51)]
    graphs = {"fxgraph_hit": 1, "aotautograd_miss": 1}
    record = warmup(str(cache), happened=happened if traced else [], rebuilt=[], graphs=graphs)
    note(store, cache, record)
    (cause,) = run("explain", "model/v1")["causes"]
    assert cause["kind"] == "restart"
    assert cause["text"].startswith("1 aotautograd lookup missed and left nothing")
    assert cause["explains"] == (["a" + "z" * 51] if traced else [])


def test_another_gpu_type_is_looked_at(fleet: Fleet, run: Command) -> None:
    device = "system_info[device]"
    for gpu, name in (("A100", "ab"), ("H100", "gh")):
        tree = Tree(fleet.folder / "local" / gpu)
        tree.graph(name, components=components(**{device: f"{{'name': 'NVIDIA {gpu}'}}"}))
        run("--gpu", gpu, "push", "model", "--from", tree.root)
    (row,) = run("inspect", "model")
    missed = [Happened("fxgraph", "miss", row["key"])]
    report = warmup("H100/model", manifest=row["origin"], happened=missed, rebuilt=[])
    report.started_ms = row["made_ms"] - 1
    note(fleet, CacheId("H100", "model"), report)
    (cause,) = run("explain", "model")["causes"]
    assert cause["text"] == "system_info[device]: NVIDIA A100 -> NVIDIA H100"
    assert cause["nearest"].startswith("f")
    assert " of A100/model, made " in cause["nearest"]


def check_export(fleet: Fleet, run: Command, cache: CacheId, target: Path) -> list[int]:
    """Export, check that figures and references agree, and count the rows of each query."""
    (content,) = {row["content"] for row in run("inspect", cache.key, "--limit", "1")}
    for _ in range(2):
        report = warmup(str(cache), unused=bytes.fromhex(content)[:8])
        report.graphs["fxgraph_miss"] = 0
        note(fleet, cache, report)
    rows = run("catalog", "-o", target)["rows"]
    assert rows["warmups"] == 2
    assert len(QUERIES) == 10
    with closing(sqlite3.connect(target)) as db:
        found = [len(db.execute(query).fetchall()) for query in QUERIES]
        total = db.execute("SELECT SUM(bytes) FROM artifacts").fetchone()[0]
        assert total == run("stats")["logical_bytes"]
        unique = db.execute("SELECT SUM(bytes) FROM blobs").fetchone()[0]
        assert unique == run("stats")["unique_bytes"]
        assert not db.execute("PRAGMA foreign_key_check").fetchall()
        whole = db.execute(
            "SELECT a.bytes, SUM(b.bytes) FROM artifacts a JOIN artifact_blobs ab ON"
            " ab.artifact = a.id JOIN blobs b ON b.id = ab.blob GROUP BY a.id"
        ).fetchall()
        assert all(size == parts for size, parts in whole)
    assert run("catalog", "-o", target)["rows"] == rows, "an earlier export is replaced"
    return found


def test_the_documented_queries_run(store: Fleet, run: Command, tmp_path: Path) -> None:
    run("push", "other", "--from", store.folder / "local/one")
    found = check_export(store, run, CacheId("H100", "model/v1"), tmp_path / "store.db")
    said = dict(zip(re.findall(r"^(\w.*):\n\n```sql", DOC, re.MULTILINE), found, strict=True))
    needs_cuda = {name for name, count in said.items() if not count}
    assert needs_cuda == {
        "Kernels that spill, worst first",
        "Configurations that autotuning tried and chose",
    }


def test_the_documented_queries_answer(
    cuda: Fleet, corpus: Path, run: Command, tmp_path: Path
) -> None:
    run("push", "bert", "--from", corpus / "cuda-bert4_train-cold1")
    run("push", "again", "--from", corpus / "cuda-llama8-v1")
    found = check_export(cuda, run, CacheId("H100", "llama8-v1"), tmp_path / "store.db")
    assert sum(1 for count in found if count) >= 9, "all but options that differ in one cache"


def test_an_export_replaces_nothing_else(store: Fleet, run: Command, tmp_path: Path) -> None:
    target = tmp_path / "mine.db"
    target.write_text("precious")
    with pytest.raises(LocalDirectory, match="left alone"):
        run("catalog", "-o", target)
    assert target.read_text() == "precious"
    with pytest.raises(LocalDirectory, match="cannot write"):
        run("catalog", "-o", tmp_path / "no/such/folder.db")


def test_the_catalog_page_has_every_table_and_column() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(TABLES)
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for name in names:
            (line,) = [row for row in DOC.splitlines() if row.startswith(f"| `{name}` |")]
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({name})")]
            for column in columns:
                assert f"`{column}`" in line, (name, column)


def test_facts_are_read_once(store: Fleet, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("inspect", "model/v1")

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("casinductor.inspect.facts.read_files", forbidden)
    assert run("inspect", "model/v1") == first


def test_lost_packs_leave_opaque_rows(store: Fleet, run: Command) -> None:
    for pack in store.files("*.pack"):
        pack.unlink()
    rows = run("inspect", "model/v1")
    assert {row["opaque"] for row in rows} == {"its blobs are missing or damaged"}
    assert run("kernels", "model/v1")


def test_a_warm_run_can_be_asserted(store: Fleet, run: Command) -> None:
    cache = CacheId("H100", "model/v1")
    with pytest.raises(CacheNotFound):
        run("assert-warm", "model/v1")
    note(store, cache, warmup("H100/model/v1"))
    with pytest.raises(Compiled, match=r"compiled: fxgraph miss fgh.*, cpp ba/x.main.so: torch"):
        run("assert-warm", "model/v1")
    warm = {"graphs": {"fxgraph_hit": 2}, "happened": [], "rebuilt": [], "kernels_built": 0}
    note(store, cache, warmup("H100/model/v1", **warm))
    assert run("assert-warm", "model/v1")["compiled"] == []
