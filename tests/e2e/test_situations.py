"""Situations that users of fleets describe, each with the real torch in processes of their own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.site import BLOCK, HEAD, Site
from tests.needs import need_privilege

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("real_torch"),
]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_model_runs_where_the_local_directory_cannot_be_used(site: Site) -> None:
    site.local.write_text("a file where the directory should be")
    said = site.run(f'{BLOCK}model(1)\nprint("RAN", os.environ.get("TORCHINDUCTOR_CACHE_DIR"))')
    assert "RAN " in said
    assert f"RAN {site.local}" not in said, "torch compiles where it would have without us"
    assert f"cannot use {site.local}" in said
    assert not (site.folder / "store").exists()


def test_what_is_finished_is_published_when_the_process_is_asked_to_end(site: Site) -> None:
    code = f'{HEAD}{BLOCK}\n model(1); model(2); print("READY", flush=True); time.sleep(120)'
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        env=site.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any("READY" in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM, "it ends as if nobody had handled the signal"
    assert "asked to end" in errors
    assert "published" in errors
    site.forget()
    assert "fxgraph 2 of 2 hit" in site.run(f"{BLOCK}model(1); model(2)")


def test_a_directory_that_an_engine_moved_torch_to_is_published(site: Site) -> None:
    engine = site.folder / "engine"
    engine.mkdir()
    said = site.run(f'{BLOCK}os.environ["TORCHINDUCTOR_CACHE_DIR"] = "{engine}"; model(1)')
    assert f"was moved from {site.local} to {engine}" in said
    assert "published" in said
    site.forget()
    assert "fxgraph 1 of 1 hit" in site.run(f"{BLOCK}model(1)")


def test_a_fresh_cache_inside_the_block_is_a_warning(site: Site) -> None:
    code = f"""
from torch._inductor.utils import fresh_cache
{BLOCK}
    with fresh_cache(): model(1)"""
    said = site.run(code)
    assert "warning" in said
    assert "what missed left no file here" in said


def test_hits_of_a_child_process_are_not_denied(site: Site) -> None:
    child = (
        "import torch; torch.set_grad_enabled(False);"
        "torch.compile(lambda x: torch.relu(x * 3 + 1).sum(-1))(torch.ones(4, 64))"
    )
    code = f"{BLOCK}subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    first = site.run(code)
    assert "published" in first
    site.forget()
    second = site.run(code)
    for said in (first, second):
        assert "torch ran in another process: its hits are not seen" in said
        assert "fxgraph 0 of 0 hit" not in said
    assert len(list((site.folder / "store/warmups").rglob("*.warmup"))) == 2


def test_a_program_that_changes_its_directory(site: Site) -> None:
    folder = site.folder / "work"
    (folder / "out").mkdir(parents=True)
    paths = {"CASINDUCTOR_LOCAL_DIR": "cache", "CASINDUCTOR_STORE": "../store"}
    said = site.run(f'{BLOCK}os.chdir("out"); model(1)', cwd=folder, **paths)
    assert "published" in said
    assert (folder / "cache").is_dir()
    assert not (folder / "out/cache").exists()
    assert (site.folder / "store/FORMAT").exists()


def test_a_graph_that_hit_is_the_blocks_whoever_brought_it(site: Site, tmp_path: Path) -> None:
    mount = tmp_path / "local"
    mount.mkdir()
    need_privilege(
        ["mount", "-t", "tmpfs", "-o", "noatime,mode=755,size=64m", "none", str(mount)], "a mount"
    )
    try:
        one = 'with synchronized_inductor_cache("m/{}"): model(1)'
        site.run(one.format("v1"))
        site.run(one.format("v2"))
        for path in mount.iterdir():
            shutil.rmtree(path)
        assert "fxgraph 1 of 1 hit" in site.run(one.format("v2"))
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_modules_of_graphs_that_torch_does_not_cache_are_not_published(site: Site) -> None:
    code = f"""
import torch, torch._inductor.config as config
net = torch.nn.Linear(64, 64).eval()
{BLOCK}
    with torch.no_grad(), config.patch(freezing=True): torch.compile(net)(torch.ones(4, 64))"""
    said = []
    for _ in range(3):
        site.forget()
        said.append(site.run(code))
    assert not any("published" in text for text in said[1:]), said
    assert "left out" in said[1]


def test_a_lock_that_somebody_holds_is_passed_by(site: Site) -> None:
    site.run(f"{BLOCK}model(1)")
    lock = site.local / ".casinductor/lock"
    holder = subprocess.Popen(["flock", "-x", str(lock), "sh", "-c", "echo held; sleep 100"])
    try:
        said = site.run(
            f"{BLOCK}model(1); model(2)",
            CASINDUCTOR_RESTORE_DEADLINE="8s",
            CASINDUCTOR_SYNC_DEADLINE="8s",
        )
    finally:
        holder.terminate()
    assert "cannot restore" not in said
    assert "another process holds the lock" in said
    assert "published" in said


def test_two_keys_that_are_open_at_once_are_a_warning(site: Site) -> None:
    code = """
with synchronized_inductor_cache("one"):
    with synchronized_inductor_cache("two"): pass"""
    assert "CPU/two is opened while CPU/one is open" in site.run(code)


def test_entries_that_no_process_can_hit_are_not_published(site: Site) -> None:
    said = []
    for _ in range(2):
        site.forget()
        said.append(site.run(f"{BLOCK}model(1)", TORCH_CACHING_PRECOMPILE="1"))
    assert "1 aotautograd entry left out: under TORCH_CACHING_PRECOMPILE" in said[0]
    assert "fxgraph 1 of 1 hit" in said[1]
    assert "published" not in said[1]


def test_a_cache_that_is_switched_off_is_named(site: Site) -> None:
    said = site.run(f"{BLOCK}model(1)", TORCHINDUCTOR_FORCE_DISABLE_CACHES="1")
    assert "torch's cache is off: TORCHINDUCTOR_FORCE_DISABLE_CACHES=1" in said


@pytest.mark.soak
def test_a_live_block_loses_little_to_sigkill(site: Site) -> None:
    code = """
with synchronized_inductor_cache("m/v1"): model(1)
model(2)  # traffic, behind the block
print("ready", flush=True)
time.sleep(100)"""
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + code],
        env=site.environment(CASINDUCTOR_LIVE="30"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(8)
    process.kill()
    process.communicate()
    site.forget()
    assert "fxgraph 2 of 2 hit" in site.run(f"{BLOCK}model(1); model(2)")
