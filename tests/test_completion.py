"""A warm-up that covered something is marked so, and holds for whoever has all that it took."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.cli.main import cli
from casinductor.companion.completion import check_label, is_complete, mark_complete
from casinductor.errors import InvalidName
from casinductor.inductor.fingerprint import worker_fingerprint
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.retention import Policy
from casinductor.store.opening import with_fresh_store
from tests.conftest import Fleet, Tree


def warmed(fleet: Fleet, worker: str, name: str) -> Cache:
    cache = fleet.cache(worker)
    cache.restore()
    Tree(fleet.folder / "local" / worker).model(name)
    cache.sync()
    return cache


def fresh(fleet: Fleet, worker: str) -> Cache:
    cache = fleet.cache(worker)
    cache.restore()
    return cache


def test_it_holds_for_who_has_all_of_it(fleet: Fleet) -> None:
    first = warmed(fleet, "one", "ab")
    assert not is_complete(first, "sweep")
    assert mark_complete(first, "sweep")
    assert is_complete(fresh(fleet, "two"), "sweep")
    assert not is_complete(fresh(fleet, "two"), "other")
    warmed(fleet, "three", "cd")
    assert is_complete(fresh(fleet, "four"), "sweep"), "more is no less"


def test_it_does_not_hold_for_who_lacks_some(fleet: Fleet) -> None:
    before = fresh(fleet, "early")
    assert not is_complete(before, "sweep")
    mark_complete(warmed(fleet, "one", "ab"), "sweep")
    assert not is_complete(before, "sweep"), "it restored nothing"
    other = replace(worker_fingerprint(), torch="9.9 (x)")
    strange = Cache("model/v1", settings=fleet.settings("strange"), worker=other)
    strange.restore()
    assert not is_complete(strange, "sweep")


def test_marks_go_with_their_cache(fleet: Fleet) -> None:
    cache = warmed(fleet, "one", "ab")
    mark_complete(cache, "sweep")
    assert len(fleet.files("completions/**/*")) == 1
    for policy, left in ((Policy(), 1), (Policy(max_bytes=0), 0)):
        with_fresh_store(
            cache.settings,
            lambda store, policy=policy: collect(  # type: ignore[misc]
                store, policy, apply=True, grace=0.0, min_age_seconds=0.0
            ),
        )
        assert len(fleet.files("completions/**/*")) == left


def test_a_damaged_mark_says_nothing(fleet: Fleet) -> None:
    mark_complete(warmed(fleet, "one", "ab"), "sweep")
    (mark,) = fleet.files("completions/**/*")
    mark.chmod(0o644)
    mark.write_bytes(b"")
    assert not is_complete(fresh(fleet, "two"), "sweep")


@pytest.mark.parametrize("label", ["", "a-b", "a/b", "..", "x" * 65])
def test_labels_that_cannot_stand_in_names(label: str) -> None:
    with pytest.raises(InvalidName):
        check_label(label)


def test_a_command_is_told(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("STORE", fleet.store),
        ("STATE_DIR", tmp_path / "s"),
        ("GPU_TYPE", "H100"),
    ):
        monkeypatch.setenv(f"CASINDUCTOR_{name}", str(value))
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "root = os.environ['TORCHINDUCTOR_CACHE_DIR'] + '/ab'\n"
        "os.makedirs(root, exist_ok=True)\n"
        "open(root + '/cabc.py', 'w').write('# module')\n"
        "print(os.environ.get('CASINDUCTOR_COMPLETE', 'not'), file=open(sys.argv[1], 'w'))\n"
    )
    told = []
    for number in range(2):
        monkeypatch.setenv("CASINDUCTOR_LOCAL_DIR", str(tmp_path / f"local-{number}"))
        out = tmp_path / f"out-{number}"
        words = ["run", "m/v1", "--complete", "sweep_1", "--"]
        result = CliRunner().invoke(cli, [*words, sys.executable, str(program), str(out)])
        assert result.exit_code == 0, result.output
        told.append(out.read_text().strip())
    assert told == ["not", "sweep_1"]
