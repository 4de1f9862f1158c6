"""Situations that users of fleets describe, without torch: directories, settings, stores."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from casinductor import toolkit
from casinductor.breaker import PROBE_SECONDS
from casinductor.cache import Cache
from casinductor.errors import LocalDirectory, StoreUnavailable
from casinductor.inductor import fingerprint as fp
from casinductor.settings import Settings, unknown_variables
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.retention import Policy
from casinductor.store.opening import with_fresh_store, with_store
from casinductor.store.stats import cache_lines
from casinductor.worker.readiness import problem_with
from tests.conftest import Fleet, Tree


@pytest.fixture
def worker(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setenv("CASINDUCTOR_STORE", str(fleet.store))
    monkeypatch.setenv("CASINDUCTOR_LOCAL_DIR", str(fleet.folder / "local/w"))
    monkeypatch.setenv("CASINDUCTOR_STATE_DIR", str(fleet.folder / "state/w"))
    monkeypatch.setenv("CASINDUCTOR_GPU_TYPE", "H100")
    return Tree(fleet.folder / "local/w")


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "casinductor", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


class TestLocalDirectory:
    def test_a_good_one_is_made(self, tmp_path: Path) -> None:
        root = tmp_path / "a" / "b"
        old = os.umask(0o002)
        try:
            assert problem_with(str(root)) is None
        finally:
            os.umask(old)
        assert root.stat().st_mode & 0o022 == 0

    def test_one_that_others_can_write_is_refused(self, fleet: Fleet, worker: Tree) -> None:
        worker.model("ab")
        worker.root.chmod(0o777)
        toolkit.load_inductor_cache("m")
        assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") != str(worker.root)
        toolkit.sync_inductor_cache("m", "")
        assert not fleet.files("*.manifest"), "somebody may have planted it"
        with pytest.raises(LocalDirectory, match="others can write"):
            fleet.cache("w").restore()
        with pytest.raises(LocalDirectory, match="nothing of it is published"):
            fleet.cache("w").sync()

    def test_one_that_others_can_write_and_the_user_trusts(
        self, fleet: Fleet, worker: Tree, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CASINDUCTOR_TRUST_LOCAL", "1")
        worker.root.mkdir(parents=True)
        worker.root.chmod(0o777)
        cache = Cache("m")
        cache.restore()
        worker.model("ab")
        assert cache.sync().manifest is None, "torch announced none of it"

    def test_a_link_of_somebody_else(self, tmp_path: Path) -> None:
        if os.geteuid():
            pytest.skip("giving a link to another user needs root: sudo make test")
        (tmp_path / "mine").mkdir()
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "mine")
        assert problem_with(str(link)) is None
        os.lchown(link, 12345, 12345)
        assert "a link that user 12345 put there" in str(problem_with(str(link)))

    def test_another_users_directory(self, tmp_path: Path) -> None:
        if os.geteuid():
            pytest.skip("giving a directory to another user needs root: sudo make test")
        root = tmp_path / "theirs"
        root.mkdir()
        os.chown(root, 12345, 12345)
        assert "belongs to user 12345" in str(problem_with(str(root)))

    def test_the_private_folder_is_looked_at_too(self, tmp_path: Path) -> None:
        (tmp_path / ".casinductor").mkdir()
        (tmp_path / ".casinductor").chmod(0o777)
        assert "others can write" in str(problem_with(str(tmp_path)))

    def test_a_directory_of_the_users_own_is_used(
        self, worker: Tree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("CASINDUCTOR_LOCAL_DIR")
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
        assert Settings.from_environment().local_dir == tmp_path / "mine"
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/tmp/torchinductor_me")
        assert Settings.from_environment().local_dir != Path("/tmp/torchinductor_me")

    def test_it_is_never_replaced_without_a_line(
        self,
        worker: Tree,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
        caplog.set_level("INFO", "casinductor")
        toolkit.load_inductor_cache("m")
        assert f"instead of {tmp_path / 'mine'}" in caplog.text


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "text", "field", "value"),
        [
            ("RESTORE_DEADLINE", "2m", "restore_deadline", 120.0),
            ("SYNC_DEADLINE", "60s", "sync_deadline", 60.0),
            ("NODE_BYTES", "10GB", "node_bytes", 10**10),
            ("NODE_BYTES", "10GiB", "node_bytes", 10 << 30),
            ("TRACE", "false", "trace", False),
            ("WARMUPS", "on", "warmups", True),
        ],
    )
    def test_they_accept_what_people_write(
        self, name: str, text: str, field: str, value: object
    ) -> None:
        found = Settings.from_environment({f"CASINDUCTOR_{name}": text})
        assert getattr(found, field) == value

    @pytest.mark.parametrize(
        ("name", "text", "says"),
        [
            ("STORE", "${UNSET}/x", "the shell left a variable"),
            ("STORE", "s3:/bucket/x", "write s3://bucket/x"),
            ("RESTORE", "some", "it must be 'needed' or 'all'"),
            ("RESTORE_DEADLINE", "soon", "60s, 2m"),
            ("NODE_BYTES", "many", "10GiB"),
            ("TRACE", "maybe", "0 or 1"),
            ("COMPACT_AFTER", "-1", "a whole number"),
            ("LOG", "loud", "quiet, info, debug"),
        ],
    )
    def test_a_bad_value_is_a_sentence_and_the_default(
        self, name: str, text: str, says: str
    ) -> None:
        settings, problems = Settings.tolerant({f"CASINDUCTOR_{name}": text})
        assert settings == Settings.from_environment({})
        (problem,) = problems
        assert problem.startswith(f"CASINDUCTOR_{name} is {text!r}; ")
        assert says in problem

    def test_names_that_do_not_exist_are_said(self) -> None:
        (sentence,) = unknown_variables({"CASINDUCTOR_LOCAL": "x", "OTHER": "y"})
        assert "did you mean CASINDUCTOR_LOCAL_DIR?" in sentence

    @pytest.mark.parametrize("name", ["RESTORE_DEADLINE", "STORE", "GPU_TYPE", "NODE_BYTES"])
    def test_the_four_functions_never_raise_for_one(
        self, worker: Tree, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(f"CASINDUCTOR_{name}", "s3:/a b/$X")
        with toolkit.synchronized_inductor_cache("m"):
            worker.model("ab")

    @pytest.mark.parametrize(
        "address", ["ftp://x/y", "s3://b/p?profile=nobody", "s3://key:secret@bucket/p", "s3://"]
    )
    def test_nor_for_an_address_or_credentials(
        self, worker: Tree, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        monkeypatch.setenv("CASINDUCTOR_STORE", address)
        monkeypatch.setenv("CASINDUCTOR_RESTORE_DEADLINE", "2")
        monkeypatch.setenv("CASINDUCTOR_SYNC_DEADLINE", "2")
        with toolkit.synchronized_inductor_cache("m"):
            pass
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(worker.root)


class TestStore:
    def test_nothing_is_created_below_a_mount_point_that_is_not_mounted(
        self, fleet: Fleet, worker: Tree, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CASINDUCTOR_STORE", str(fleet.folder / "mnt/vol/caches"))
        with toolkit.synchronized_inductor_cache("m"):
            worker.model("ab")
        with pytest.raises(StoreUnavailable, match="does not exist, or is not mounted"):
            Cache("m").sync()
        assert not (fleet.folder / "mnt").exists()

    @pytest.mark.parametrize("verb", ["ls", "stats", "gc", "check", "ls m", "stats m", "inspect m"])
    def test_looking_at_a_store_that_is_not_there_creates_none(
        self, tmp_path: Path, verb: str
    ) -> None:
        done = command("--store", tmp_path / "typo", *verb.split())
        assert done.returncode == 3, done.stderr
        assert "there is no store at" in done.stderr
        assert not (tmp_path / "typo").exists()

    def test_a_restore_creates_none_and_a_sync_one_folder(self, fleet: Fleet) -> None:
        fleet.cache("v").restore()
        assert not fleet.store.exists()
        Tree(fleet.folder / "local/w").model("ab")
        assert fleet.cache("w").sync().manifest

    @pytest.mark.parametrize("umask", [0o022, 0o077])
    def test_what_a_member_of_a_group_creates_the_others_can_write(
        self, fleet: Fleet, umask: int
    ) -> None:
        fleet.store.mkdir()
        fleet.store.chmod(0o2775)
        Tree(fleet.folder / "local/w").model("ab")
        old = os.umask(umask)
        try:
            fleet.cache("w").sync()
        finally:
            os.umask(old)
        for path in fleet.store.rglob("*"):
            mode = path.stat().st_mode
            assert mode & 0o060 == 0o060, path
            assert not path.is_dir() or mode & 0o2010 == 0o2010, path

    def test_one_that_is_begun_anew_at_the_same_path_is_clean(self, fleet: Fleet) -> None:
        Tree(fleet.folder / "local/w").model("ab")
        fleet.cache("w", "one").sync()
        fleet.store.rename(fleet.folder / "old")
        report = fleet.cache("w", "two").sync()
        assert report.attempts == 1, "nothing was counted on that the old store held"
        known = with_store(fleet.settings("w"), lambda store: store.catalog.manifests.caches())
        assert [cache.key for cache in known] == ["two"]

    def test_a_worker_without_a_temporary_directory(
        self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from msgspec.structs import replace

        def none() -> str:
            raise FileNotFoundError(2, "No usable temporary directory found")

        Tree(fleet.folder / "local/w").model("ab")
        fleet.cache("w").sync()
        monkeypatch.setattr(tempfile, "gettempdir", none)
        settings = replace(fleet.settings("v"), state_dir=None)
        assert Cache("model/v1", settings=settings).restore("all").files_written == 8
        from casinductor.inspect.workercheck import check_worker

        checks = {check.name: check for check in check_worker(settings, {})}
        assert "no temporary directory" in checks["state directory"].found

    def test_silence_is_paid_for_once(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        """A FIFO for FORMAT: nothing that opens it to read waits, so a lock stands for silence."""
        import threading

        from casinductor.breaker import Breaker
        from casinductor.errors import DeadlineExceeded
        from casinductor.store.store import Store

        asked: list[float] = []
        answered = threading.Event()
        breaker = Breaker()
        breaker.trip("here")
        monkeypatch.setattr("casinductor.breaker.PROBE_SECONDS", 0.05)

        def silent(store: Store) -> str | None:
            asked.append(PROBE_SECONDS)
            answered.wait(5)
            return None

        monkeypatch.setattr(Store, "format_problem", silent)

        def work(store: Store) -> None:
            with pytest.raises(DeadlineExceeded, match="did not answer before"):
                breaker.check("here", store)
            answered.set()
            breaker.check("here", store)
            breaker.check("here", store)

        with_fresh_store(fleet.settings("x"), work)
        assert len(asked) == 2, "once it answers it is not asked again"


class TestUse:
    def test_the_cache_restored_last_is_kept(self, fleet: Fleet) -> None:
        for key in ("aa", "zz"):
            Tree(fleet.folder / "local" / key, seed=ord(key[0])).model(key)
            fleet.cache(key, key).sync()
        for mark in fleet.files("uses/H100/*/*"):
            mark.rename(mark.with_name("2026-01-01T000000"))
        fleet.cache("v", "aa").restore()
        size = fleet.stored_bytes() // 2 + 2000

        def work(store: object) -> dict[str, str]:
            return collect(store, Policy(max_bytes=size)).caches  # type: ignore[arg-type]

        assert list(with_fresh_store(fleet.settings("g"), work)) == ["H100/zz"]

    def test_a_worker_that_may_not_leave_a_mark_says_so(self, fleet: Fleet) -> None:
        Tree(fleet.folder / "local/w").model("ab")
        fleet.cache("w").sync()
        for mark in fleet.files("uses/*/*/*/*"):
            mark.unlink()
        uses = fleet.store / "uses"
        for path in sorted(uses.rglob("*"), reverse=True):
            path.rmdir()
        uses.rmdir()
        uses.write_text("nothing can be created below a file")
        report = fleet.cache("v").restore()
        assert any("gc --keep-within does not know" in note for note in report.notes)

    def test_the_last_sync_is_a_workers(self, fleet: Fleet) -> None:
        from casinductor.store.maintain.compact import compact

        Tree(fleet.folder / "local/w").model("ab")
        cache = fleet.cache("w")
        cache.sync()
        Tree(fleet.folder / "local/w").model("cd")
        cache.sync()

        def line(store: object) -> int:
            return cache_lines(store, None)[0].synced_ms  # type: ignore[arg-type]

        before = with_fresh_store(fleet.settings("x"), line)
        with_fresh_store(fleet.settings("x"), lambda store: compact(store, cache.id))
        assert with_fresh_store(fleet.settings("x"), line) == before > 0


class TestCommands:
    def test_a_push_that_cannot_know_its_torch_is_refused(
        self, fleet: Fleet, worker: Tree, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from casinductor.cli.main import main

        worker.model("ab")
        monkeypatch.setattr(fp, "_torch_version", lambda: ("none", "none"))
        fp._installed.cache_clear()
        try:
            with pytest.raises(SystemExit) as stop:
                main(["push", "m", "--from", str(worker.root)])
            assert stop.value.code == 2
            assert not fleet.store.exists()
            with pytest.raises(SystemExit) as stop:
                main(["push", "m", "--from", str(worker.root), "--python", "/no/such/python"])
            assert stop.value.code == 2
        finally:
            fp._installed.cache_clear()

    @pytest.mark.torch
    def test_another_interpreter_is_asked_for_its_torch(self) -> None:
        from casinductor.inductor.interpreter import fingerprint_of

        assert fingerprint_of(sys.executable) == fp.worker_fingerprint()

    def test_an_empty_directory_has_a_status_of_its_own(self, fleet: Fleet, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        push = ("--store", fleet.store, "push", "m", "--from", tmp_path / "empty")
        assert command(*push).returncode == 9
        assert command(*push, "--allow-empty").returncode == 0

    def test_a_cache_that_is_refused_as_a_whole_has_it_too(
        self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from msgspec.structs import replace

        other = replace(fp.worker_fingerprint(), python="cpython-27")
        Tree(fleet.folder / "local/w").model("ab")
        cache = Cache("model/v1", settings=fleet.settings("w"), worker=other)
        cache.sync()
        pull = ("--store", fleet.store, "--gpu", "H100", "pull", "model/v1")
        to = ("--to", fleet.folder / "local/v")
        refused = command(*pull, *to)
        assert refused.returncode == 9
        assert "is refused: made for Python ABI cpython-27" in refused.stderr
        assert command(*pull, *to, "--allow-empty").returncode == 0


class TestVoice:
    SCRIPT = """
from casinductor import synchronized_inductor_cache
with synchronized_inductor_cache("m"): pass
"""

    def run(self, fleet: Fleet, before: str = "", **more: str) -> str:
        environment = {
            "CASINDUCTOR_STORE": str(fleet.store),
            "CASINDUCTOR_LOCAL_DIR": str(fleet.folder / "local"),
            "CASINDUCTOR_STATE_DIR": str(fleet.folder / "state"),
            **more,
        }
        done = subprocess.run(
            [sys.executable, "-c", before + self.SCRIPT],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert not done.stdout
        return done.stderr

    def test_lines_are_read_where_nobody_configured_logging(self, fleet: Fleet) -> None:
        assert "casinductor: CPU/m: nothing stored yet" in self.run(
            fleet, CASINDUCTOR_GPU_TYPE="CPU"
        )

    def test_quiet_prints_nothing(self, fleet: Fleet) -> None:
        assert self.run(fleet, CASINDUCTOR_LOG="quiet") == ""

    def test_a_program_that_configured_logging_decides(self, fleet: Fleet) -> None:
        assert self.run(fleet, "import logging; logging.basicConfig()\n") == ""
        shown = self.run(fleet, "import logging; logging.basicConfig(level='INFO')\n")
        assert "INFO:casinductor:" in shown
