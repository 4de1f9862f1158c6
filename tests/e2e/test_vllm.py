"""Real vLLM on this machine's CPU, in the mode that GPUs use; ``make test-vllm`` sets it up.

Every start has its own cache root, home and temporary directory, as a fresh pod has.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
HERE = Path(__file__).with_name("vllm")
PYTHON = os.environ.get("CASINDUCTOR_VLLM_PYTHON", "")
PORT = 18_733


@dataclass
class Start:
    """What one start said, and where its caches lay."""

    said: str
    root: Path

    @property
    def answer(self) -> str:
        found = re.search(r"ANSWER (.*)", self.said)
        assert found, self.said[-4000:]
        return found[1]

    @property
    def loaded(self) -> int:
        """How many ranks loaded vLLM's own file instead of compiling."""
        return self.said.count("Directly load AOT compilation")

    @property
    def truth(self) -> str:
        """The last line that says what hit."""
        return [line for line in self.said.splitlines() if "fxgraph" in line][-1]


@dataclass
class Site:
    """A fleet's store and the starts of its pods."""

    folder: Path
    starts: int = 0
    models: dict[int, Path] = field(default_factory=dict)

    @property
    def casinductor(self) -> str:
        return str(Path(PYTHON).with_name("casinductor"))

    def model(self, layers: int) -> Path:
        if layers not in self.models:
            path = self.folder / f"model-{layers}"
            script = HERE / "make_model.py"
            subprocess.run([PYTHON, script, path, str(layers)], check=True)
            self.models[layers] = path
        return self.models[layers]

    def environment(self, model: Path, **more: str) -> tuple[Path, dict[str, str]]:
        self.starts += 1
        pod = self.folder / f"pod-{self.starts}"
        for name in ("home", "tmp"):
            (pod / name).mkdir(parents=True)
        ours = {k: v for k, v in os.environ.items() if not k.startswith("CASINDUCTOR_")}
        return pod / "root", {
            **ours,
            "CASINDUCTOR_STORE": str(self.folder / "store"),
            "CASINDUCTOR_LOCAL_DIR": str(pod / "local"),
            "VLLM_CACHE_ROOT": str(pod / "root"),
            "HOME": str(pod / "home"),
            "TMPDIR": str(pod / "tmp"),
            "PYTHONPATH": str(HERE),
            "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "MODEL": str(model),
            **more,
        }

    def run(self, *before: str, layers: int = 2, **more: str) -> Start:
        root, environment = self.environment(self.model(layers), **more)
        command = [*before, PYTHON, str(HERE / "answer.py")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-4000:]
        return Start(done.stdout + done.stderr, root)

    def under(self, key: str, *, layers: int = 2, **more: str) -> Start:
        """A start by ``casinductor run``."""
        return self.run(self.casinductor, "run", key, "--", layers=layers, **more)

    def ask(self, *words: str) -> str:
        environment = self.environment(Path("none"))[1]
        command = [self.casinductor, *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    if not PYTHON:
        pytest.skip("needs vLLM in an environment of its own: make test-vllm")
    return Site(tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="module")
def cold(site: Site) -> Start:
    """The first pod, which compiles."""
    start = site.under("tiny/v1")
    assert start.loaded == 0
    assert "published" in start.said
    assert "of no known kind" not in start.said
    return start


def test_a_fresh_pod_loads_what_the_first_compiled(site: Site, cold: Start) -> None:
    warm = site.under("tiny/v1")
    assert warm.loaded == 1
    assert warm.answer == cold.answer
    assert "fxgraph 3 of 3 hit" in warm.truth
    kernels = [p for p in warm.root.rglob("*.main.so") if p.stat().st_mtime > started(warm)]
    assert not kernels, "g++ ran for no kernel"
    #: Some starts build one more probe of the compiler, warm ones of vLLM's own too.
    assert re.search(r"; [01] kernels? built", warm.truth)


def started(start: Start) -> float:
    """When the restore was done: what it placed is older."""
    return (start.root.parent / "local/.casinductor/owners").stat().st_mtime + 1


def test_a_key_in_the_environment_is_enough(site: Site, cold: Start) -> None:
    warm = site.run(CASINDUCTOR_KEY="tiny/v1")
    assert warm.loaded == 1
    assert warm.answer == cold.answer
    assert "fxgraph 3 of 3 hit" in warm.truth
    assert warm.said.count(": restored ") == 1


def test_what_only_looks_like_a_hit_is_told(site: Site, cold: Start) -> None:
    """vLLM's file without the libraries: loaded, and every library is built again."""
    before = site.under("tiny/v1")
    shutil.rmtree(site.folder / "only", ignore_errors=True)
    (model,) = before.root.rglob("rank_0_0/model")
    copy = site.folder / "only" / model.relative_to(before.root)
    copy.parent.mkdir(parents=True)
    shutil.copy(model, copy)
    site.ask("push", "only/v1", "--from", str(site.folder / "only"))
    partial = site.under("only/v1")
    assert partial.loaded == 1
    assert re.search(r"kernels built, \d+ of them rebuilt \(the cache does not hold", partial.truth)


def test_both_ranks_are_warm(site: Site) -> None:
    first, second = (
        site.under("tp/v1", LLM_ARGS='{"tensor_parallel_size": 2}', VLLM_CPU_OMP_THREADS_BIND="0|1")
        for _ in range(2)
    )
    assert (first.loaded, second.loaded) == (0, 2)
    assert first.answer == second.answer


def test_another_model_string_is_named(site: Site, cold: Start) -> None:
    other = site.folder / "elsewhere"
    shutil.copytree(site.model(2), other)
    moved = site.under("tiny/v1", MODEL=str(other), VLLM_ENGINE_READY_TIMEOUT_S="1234")
    assert moved.loaded == 0
    said = site.ask("explain", "tiny/v1")
    assert f"model: {site.model(2)} -> {other}" in said
    assert "VLLM_ENGINE_READY_TIMEOUT_S: 600 -> 1234" in said


def test_two_models_share_a_store(site: Site, cold: Start) -> None:
    site.under("three/v1", layers=3)
    warm = site.under("three/v1", layers=3)
    assert warm.loaded == 1
    stats = site.ask("stats")
    assert "logical" in stats
    print(stats)


#: What ``vllm serve`` starts; that command asks for a distribution named vllm, not vllm-cpu.
SERVER = "vllm.entrypoints.openai.api_server"


@contextmanager
def serving(site: Site) -> Iterator[subprocess.Popen[str]]:
    """A server under ``casinductor run`` in a fresh pod, ready to answer."""
    environment = site.environment(site.model(2))[1]
    command = [site.casinductor, "run", "served/v1", "--", PYTHON, "-m", SERVER]
    command += ["--model", environment["MODEL"], "--load-format", "dummy", "--dtype", "bfloat16"]
    log = Path(environment["HOME"], "log")
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, "--max-model-len", "128", "--port", str(PORT)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_ready(process, log)
            process.log = log  # type: ignore[attr-defined]
            yield process
        finally:
            kill_all(process)


def kill_all(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def wait_ready(process: subprocess.Popen[str], log: Path) -> None:
    until = time.monotonic() + 400
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server never became ready")


def test_a_server_killed_when_it_is_ready_leaves_all(site: Site) -> None:
    with serving(site) as server:
        kill_all(server)
        server.wait()
    assert "model" in site.ask("ls", "served/v1")
    with serving(site) as server:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=120)
        said = server.log.read_text()  # type: ignore[attr-defined]
    assert "Directly load AOT compilation" in said
    assert "fxgraph 3 of 3 hit" in said
