"""Planted causes with the real torch: each is named first; reports agree with torch and strace."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.needs import need

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("real_torch"),
]
WORKER = Path(__file__).with_name("planted_worker.py")
PLANTED = {
    "config": "inductor_config[epilogue_fusion]: True -> False",
    "shape": "example_inputs[0]: shape [3,16] -> [5,16]",
    "dtype": "example_inputs[0]: dtype float32 -> float64",
    "guard": "guard failed: `L['t0'] <= 4096`",
    "code": "graph code: cos = torch.ops.aten.cos.default(mm)",
    "threads": "cpp_runtime_thread_count: 1 -> 2",
    "device": "system_info[device]: absent -> NVIDIA H100",
    "tag": "cache_key_tag: absent -> canary",
    "missing": "1 kernel rebuilt: it was restored, and gone or changed when torch looked",
    "absent": "kernels rebuilt: the cache does not hold it",
    "venv": "rebuilt: torch lies elsewhere than where the cache was made",
    "build": "torch 2.",
    "isa": "vector ISA: ",
    "compiler": "there is no C++ compiler in PATH",
}
#: Run under strace.
TRACED = ("everything", "missing")
KINDS = {
    "threads": "threads",
    "tag": "key tag",
    "code": "graph",
    "missing": "gone",
    "absent": "absent",
    "venv": "moved torch",
    "build": "torch",
    "isa": "worker",
}


@dataclass
class Site:
    """A store with one key for each cause, all filled by the same producer."""

    folder: Path
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def environment(self, planted: str) -> dict[str, str]:
        environment = {
            **os.environ,
            "CASINDUCTOR_STORE": str(self.folder / "store"),
            "CASINDUCTOR_LOCAL_DIR": str(self.folder / "local" / planted),
            "CASINDUCTOR_STATE_DIR": str(self.folder / "state"),
            "CASINDUCTOR_GPU_TYPE": "CPU",
            "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
            "TORCHINDUCTOR_VEC_ISA_OK": "1",
            "OMP_NUM_THREADS": "2" if planted == "threads" else "1",
        }
        if planted == "tag":
            environment["TORCH_COMPILE_CACHE_KEY_TAG"] = "canary"
        if planted == "compiler":
            environment["PATH"] = str(self.folder)
        if planted == "isa":
            environment["ATEN_CPU_CAPABILITY"] = "default"
        if planted in ("venv", "build"):
            overlay = self.overlay(planted)
            environment["PYTHONPATH"] = f"{overlay}:{os.environ.get('PYTHONPATH', '')}"
        return environment

    def overlay(self, planted: str) -> Path:
        """The same torch at another path; for ``build``, of another version."""
        overlay = self.folder / "site" / planted
        spec = find_spec("torch")
        assert spec is not None
        torch = Path(str(spec.origin)).parent
        (overlay / "torch").mkdir(parents=True)
        for child in torch.iterdir():
            if child.name not in ("version.py", "__pycache__"):
                (overlay / "torch" / child.name).symlink_to(child)
        text = (torch / "version.py").read_text()
        if planted == "build":
            text = re.sub(r"'(\d+\.\d+\.\d+)", r"'\g<1>.post7", text)
        (overlay / "torch" / "version.py").write_text(text)
        return overlay

    def work(self, jobs: dict[str, str], *wrapper: str) -> None:
        """Run one process that does these jobs, planted things by key, one after the other."""
        given = [f"{key}={planted}" for key, planted in jobs.items()]
        result = subprocess.run(
            [*wrapper, sys.executable, str(WORKER), str(self.folder / "local"), *given],
            env=self.environment(next(iter(jobs.values()))),
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-5000:]
        told = [json.loads(line) for line in result.stdout.splitlines() if line[:1] == "{"]
        assert len(told) == len(jobs)
        with self.lock:
            self.said.update((said["planted"], said) for said in told)

    def command(self, *arguments: str) -> Any:
        result = subprocess.run(
            [sys.executable, "-m", "casinductor", "--json", *arguments],
            env=self.environment("cli"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def plant(self, names: tuple[str, ...]) -> None:
        """Fill a cache for each name as the producer left it, and let a worker run into it."""
        for planted in names:
            source = self.folder / "local" / "base"
            if planted == "absent":
                source = self.folder / "without"
                shutil.copytree(self.folder / "local" / "base", source)
                for library in source.glob("*/*.so"):
                    library.unlink()
            self.command("push", planted, "--from", str(source))
        traced = names[0] in TRACED and shutil.which("strace")
        calls = "trace=openat,open,execve,stat,newfstatat,lstat,statx"
        log = str(self.folder / f"strace-{names[0]}")
        strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "4000", "-e", calls, "-o", log]
        self.work({name: name for name in names}, *(strace if traced else []))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One producer, then workers that miss for a planted reason, two processes at a time.

    What is planted by the environment takes a process of its own, and so does what a library that
    is loaded already would hide.
    """
    made = Site(tmp_path_factory.mktemp("planted"))
    made.work({"base": "base"})
    together = ("absent", "config", "shape", "dtype", "guard", "code", "device")
    alone = [name for name in (*TRACED, *PLANTED) if name not in together]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(made.plant, [together, *((name,) for name in dict.fromkeys(alone))]))
    return made


@pytest.mark.parametrize("planted", PLANTED)
def test_the_planted_cause_is_named_first(site: Site, planted: str) -> None:
    found = site.command("explain", planted)
    assert found["causes"], found
    first = found["causes"][0]
    assert PLANTED[planted] in first["text"], found["causes"]
    assert first["kind"] == KINDS.get(planted, planted)
    assert first["advice"]
    if planted in ("config", "threads", "device", "tag"):
        assert {cause["kind"] for cause in found["causes"]} <= {first["kind"], "follows"}


@pytest.mark.parametrize("planted", ["base", *PLANTED])
def test_the_report_counts_what_torch_counts(site: Site, planted: str) -> None:
    said = site.said[planted]
    assert said["warmup"]["graphs"] == said["counters"]
    assert said["warmup"]["traced"]


def test_a_rebuilt_kernel_is_told_though_all_graphs_hit(site: Site) -> None:
    for planted in ("missing", "absent", "venv"):
        warmup = site.said[planted]["warmup"]
        assert warmup["graphs"]["fxgraph_miss"] == 0
        assert warmup["rebuilt"], planted
    assert len(site.said["missing"]["warmup"]["rebuilt"]) == 1


@pytest.mark.parametrize("planted", TRACED)
def test_files_read_and_kernels_built_are_those_that_strace_saw(site: Site, planted: str) -> None:
    need("strace")
    log, said = site.folder / f"strace-{planted}", site.said[planted]
    warmup, restored = said["warmup"], set(said["restored"])
    text = log.read_text(errors="replace")
    body = text[text.index("/casinductor-begin") : text.index("/casinductor-end")]
    local = str(site.folder / "local" / planted)
    opened = {
        path.removeprefix(local + "/")
        for path in re.findall(rf'open(?:at)?\([^"]*"({re.escape(local)}/[^"]+)", O_RDONLY', body)
        if Path(path).is_file()
    }
    compiled = set(re.findall(r'execve\("[^"]*/g\+\+", (\[[^\n]*"-shared"[^\n]*?\]), 0x', body))
    gone = set(said["gone"])
    assert warmup["kernels_built"] == len(gone) == len(compiled)
    assert warmup["files_restored"] == len(restored)
    assert warmup["files_used"] == len((opened & restored) - gone)
    assert set(warmup["read"]) == (opened & restored) - gone


def test_the_history_is_in_the_store(site: Site) -> None:
    rows = site.command("inspect", "shape")
    assert {row["restored"] for row in rows} >= {1}
    used = [row for row in rows if row["kind"] == "fxgraph" and row["used"]]
    assert not used, "the new shape read none of the restored entries"
