"""What ``--json`` prints is what ``docs/schema`` says, and the published files are of this code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from casinductor.cli.main import _COMMANDS, SECTIONS, cli
from casinductor.store.format.names import CacheId
from tests.conftest import Fleet, Tree
from tests.inspect.conftest import Command, note, warmup
from tests.inspect.conftest import run as run
from tests.inspect.conftest import store as store
from tools.api_page import api_page
from tools.documents import DOCUMENTS, schema
from tools.published import DOCS, man_pages, schemas

#: Their documents are printed as events, by the tests of the commands themselves.
EVENTS = {"run", "watch", "metrics"}


def check(name: str, document: Any) -> None:
    """Hold a document against its schema, which names every field."""
    told = schema(name)
    Draft202012Validator.check_schema(told)
    for definition in told["$defs"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    Draft202012Validator(told).validate(document)


def test_what_is_published_is_of_this_code() -> None:
    for folder, files in (("schema", schemas()), ("man", man_pages())):
        there = {path.name: path.read_text("utf-8") for path in (DOCS / folder).iterdir()}
        assert there == files, "run make published"
    assert (DOCS / "api.md").read_text("utf-8") == api_page(), "run make published"


def test_every_command_has_a_schema() -> None:
    assert {name.split()[0] for name in DOCUMENTS} - {"any,"} == set(_COMMANDS) - EVENTS


def test_every_command_is_in_a_section_and_has_one_line() -> None:
    names = [name for section in SECTIONS.values() for name in section]
    assert sorted(names) == sorted(set(names))
    modules = {path.stem for path in Path(cli.get_command.__code__.co_filename).parent.glob("*.py")}
    assert {name.replace("-", "_") for name in names} <= modules
    said = subprocess.run(
        [sys.executable, "-m", "casinductor", "--help"], capture_output=True, text=True, check=True
    )
    lines = said.stdout.splitlines()
    for name in names:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert 20 < len(line) <= 80
        assert line.endswith(".")


READING = (
    ("ls", "ls"),
    ("ls CACHE", "ls model/v1"),
    ("ls --by-kind", "ls model/v1 --by-kind"),
    ("stats", "stats"),
    ("stats", "stats model/v1"),
    ("runs", "runs"),
    ("inspect", "inspect model/v1"),
    ("kernels", "kernels model/v1"),
    ("show", "show cpp_fused_cos_0"),
    ("diff", "diff model/v1 model/v1"),
    ("explain", "explain model/v1"),
    ("gc", "gc"),
    ("check", "check --data all"),
    ("trust", "trust"),
    ("copy", "copy {store} {store}.copy"),
)


def test_commands_that_read(store: Fleet, run: Command) -> None:
    note(store, CacheId("H100", "model/v1"), warmup("H100/model/v1"))
    for name, words in READING:
        document = run(*words.format(store=store.store).split())
        check(name, document)
        if DOCUMENTS[name].rows:
            assert document, words


def test_commands_that_write(store: Fleet, run: Command, tmp_path: Path) -> None:
    made = Tree(tmp_path / "made").model("ab")
    check("push", run("push", "other", "--from", made.root))
    check("pull", run("pull", "other", "--to", tmp_path / "pulled"))
    note(
        store,
        CacheId("H100", "other"),
        warmup("H100/other", graphs={"fxgraph_hit": 1}, kernels_built=0, happened=[], rebuilt=[]),
    )
    check("assert-warm", run("assert-warm", "other"))
    check("compact", run("compact", "model/v1"))
    check("hide", run("hide", "other", "--run", run("ls", "other")[0]["origin"]))
    check("hide --list", run("hide", "other", "--list"))
    check("unhide", run("unhide", "other", "--all"))
    check("rm", run("rm", "other"))
    check("undelete", run("undelete", "other"))
    check("repair", run("repair"))
    check("catalog", run("catalog", "-o", tmp_path / "store.db"))
    check("report", run("report", "model/v1", "-o", tmp_path / "page.html"))


def test_commands_about_keys(
    store: Fleet, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check("key new", run("key", "new", tmp_path / "a.key"))
    check("key show", run("key", "show", tmp_path / "a.key.pub"))
    monkeypatch.setenv("CASINDUCTOR_SIGNING_KEY", str(tmp_path / "a.key"))
    monkeypatch.setenv("CASINDUCTOR_TRUSTED_KEYS", str(tmp_path / "a.key.pub"))
    check("resign", run("resign", "model/v1"))


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        ("pull nothing", "cache-not-found", 5),
        ("frobnicate", "usage", 2),
        ("ls model/v1 --filter colour=red", "usage", 2),
        ("push k --from /nowhere", "local-directory", 6),
    ],
)
def test_errors_are_json_too(store: Fleet, words: str, code: str, status: int) -> None:
    command = [sys.executable, "-m", "casinductor", "--store", str(store.store), "--gpu", "H100"]
    said = subprocess.run(
        [*command, "--json", *words.split()], capture_output=True, text=True, check=False
    )
    assert said.returncode == status
    assert said.stdout == ""
    document = json.loads(said.stderr)
    check("any, failing", document)
    assert (document["error"]["code"], document["error"]["status"]) == (code, status)


def test_the_doctor_has_a_schema(store: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "casinductor", "--store", str(store.store), "--gpu", "H100"]
    said = subprocess.run([*command, "--json", "doctor"], capture_output=True, check=False)
    check("doctor", json.loads(said.stdout))
