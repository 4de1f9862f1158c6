"""A store in a real OCI registry (Debian's ``docker-registry``), and ``skopeo`` on it."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from casinductor.cli.main import main
from tests.conftest import Fleet, Tree, content
from tests.needs import need
from tests.servers import free_ports
from tests.store.test_copying import kill_a_copy

pytestmark = pytest.mark.servers


@dataclass
class Registry:
    """A running registry and where it keeps its blobs."""

    host: str
    folder: Path

    def address(self, name: str) -> str:
        return f"oci://{self.host}/{name}"

    def blobs(self) -> set[str]:
        return {path.parent.name for path in self.folder.glob("**/blobs/sha256/*/*/data")}


def serve(folder: Path, auth: str = "") -> Iterator[Registry]:
    need("docker-registry")
    (port,) = free_ports(1)
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder}/data\n"
        f"http:\n  addr: 127.0.0.1:{port}\n{auth}"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(200):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
                break
            time.sleep(0.05)
        yield Registry(f"127.0.0.1:{port}", folder / "data")
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    yield from serve(folder)


Run = Callable[..., Any]


@pytest.fixture
def run(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command in this process, as ``main`` runs it; its JSON, or its errors for a status."""

    def command(*words: object, status: int = 0, state: str = "cli", **variables: str) -> Any:
        folder = str(fleet.folder / "state" / state)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"CASINDUCTOR_STATE_DIR": folder, **variables}.items():
                patch.setenv(name, value)
            capsys.readouterr()
            try:
                main(["--gpu", "H100", "--json", *map(str, words)])
                ended = 0
            except SystemExit as stop:
                ended = int(stop.code or 0)
        said = capsys.readouterr()
        assert ended == status, said.err
        return json.loads(said.out) if status == 0 else said.err

    return command


def pulled(run: Run, fleet: Fleet, store: object, key: str = "model/v1") -> dict[str, bytes]:
    local = fleet.folder / "local/reader"
    shutil.rmtree(local, ignore_errors=True)
    report = run("--store", store, "pull", key, "--to", local, "--restore", "all")
    assert (report["lost"], report["damage"], report["refused"]) == (0, [], 0)
    return content(local)


def test_there_and_back(two: Fleet, run: Run, registry: Registry) -> None:
    expected = pulled(run, two, two.store)
    tag = registry.address("ml/caches:v1")
    (first,) = run("copy", two.store, tag)
    assert (first["groups"], first["lost"]) == (10, [])
    assert pulled(run, two, tag) == expected
    before = registry.blobs()
    (again,) = run("copy", two.store, tag)
    assert (again["groups"], again["groups_there"]) == (0, 10)
    assert registry.blobs() == before
    Tree(two.folder / "local/ef", seed=9).model("ef")
    two.cache("ef").sync()
    (more,) = run("copy", two.store, tag)
    assert more["groups"] == 5
    assert before < registry.blobs()
    assert len(registry.blobs() - before) == 3, "a pack, a manifest of ours, and the registry's"
    assert run("--store", tag, "check", "--data", "all")["problems"] == []
    run("copy", tag, two.folder / "back")
    assert pulled(run, two, two.folder / "back") == pulled(run, two, two.store)


def test_push_and_ls_take_a_tag(fleet: Fleet, run: Run, registry: Registry) -> None:
    tag = registry.address("team/model:latest")
    made = Tree(fleet.folder / "made").model("ab")
    assert run("--store", tag, "push", "m/v1", "--from", made.root)["groups_added"] == 5
    assert [line["cache"] for line in run("--store", tag, "ls")] == ["H100/m/v1"]
    assert len(pulled(run, fleet, tag, "m/v1")) == 8
    error = run("--store", tag, "rm", "m/v1", status=3)
    assert "is sealed" in error


def test_skopeo_copies_a_store(two: Fleet, run: Run, registry: Registry, tmp_path: Path) -> None:
    need("skopeo")
    run("copy", two.store, registry.address("ml/caches:v1"))
    source, target = (f"docker://{registry.host}/{name}" for name in ("ml/caches:v1", "other:v2"))
    plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run(["skopeo", "copy", *plain, source, target], check=True, capture_output=True)
    assert pulled(run, two, registry.address("other:v2")) == pulled(run, two, two.store)


def test_two_writers_of_one_tag_lose_nothing(fleet: Fleet, run: Run, registry: Registry) -> None:
    tag = registry.address("ml/caches:v1")
    stores = []
    for number, key in enumerate("abcd"):
        Tree(fleet.folder / f"local/{key}", seed=number).model(key * 2)
        store = fleet.folder / f"store-{key}"
        run("--store", store, "push", key, "--from", fleet.folder / f"local/{key}")
        stores.append(store)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "casinductor", "copy", str(store), tag],
            env={**os.environ, "CASINDUCTOR_STATE_DIR": str(fleet.folder / f"state/{number}")},
        )
        for number, store in enumerate(stores)
    ]
    assert [process.wait() for process in processes] == [0] * 4
    for store in stores:  # what overtook another one's last look is put right by the next copy
        run("copy", store, tag)
    assert [line["key"] for line in run("--store", tag, "ls")] == list("abcd")


def test_a_copy_that_is_killed_goes_on(fleet: Fleet, run: Run, registry: Registry) -> None:
    for number in range(6):
        Tree(fleet.folder / "local/w", seed=number).model("abcdef"[number] * 2)
        fleet.cache("w").sync()
    tag = registry.address("ml/caches:v1")
    slow = (
        "import time\n"
        "from casinductor.store.backends.repository import Repository\n"
        "real = Repository.upload\n"
        "def slowly(*given):\n"
        "    real(*given); print('one', flush=True); time.sleep(0.2)\n"
        "Repository.upload = slowly\n"
        "from casinductor.cli.main import main\n"
        "main()\n"
    )
    kill_a_copy(fleet.folder / "state/cli", str(fleet.store), tag, slow)
    assert "no such repository or tag" in run("--store", tag, "ls", status=3)
    sent = registry.blobs()
    (report,) = run("copy", fleet.store, tag)
    assert (report["groups"], report["groups_there"]) == (0, 30)
    assert sent < registry.blobs()
    assert pulled(run, fleet, tag) == pulled(run, fleet, fleet.store)


def bcrypt(password: str) -> str:
    """A hash as ``htpasswd -B`` writes it, by the system's libcrypt."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    hashed = crypt(password.encode(), b"$2y$05$abcdefghijklmnopqrstuu")
    assert isinstance(hashed, bytes)
    return hashed.decode()


def test_credentials_are_those_of_docker(two: Fleet, run: Run, tmp_path: Path) -> None:
    """A registry that wants a password: without it one error that says so, with it everything."""
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "users").write_text(f"user:{bcrypt('secret')}\n")
    auth = f"auth:\n  htpasswd:\n    realm: test\n    path: {folder}/users\n"
    for registry in serve(folder, auth):
        tag = registry.address("ml/caches:v1")
        for password, status in (("wrong", 3), ("secret", 0)):
            home = tmp_path / password
            (home / ".docker").mkdir(parents=True)
            token = base64.b64encode(f"user:{password}".encode()).decode()
            logins = {"auths": {registry.host: {"auth": token}}}
            (home / ".docker/config.json").write_text(json.dumps(logins))
            said = run("copy", two.store, tag, status=status, HOME=str(home))
            if status:
                assert "401" in said
                assert token not in said
        error = run("--store", tag, "ls", status=3, HOME=str(tmp_path / "nobody"))
        assert "401" in error
        listed = run("--store", tag, "ls", HOME=str(tmp_path / "secret"))
        assert [line["cache"] for line in listed] == ["H100/model/v1"]


@pytest.mark.parametrize(
    ("address", "status", "told"),
    [
        ("oci://127.0.0.1:9/ml/x:v1", 3, "connection refused by 127.0.0.1:9"),
        ("oci://no-such-host.invalid/ml/x:v1", 3, "no such host: no-such-host.invalid"),
        ("oci://registry.example", 2, "is no oci://registry/repository:tag"),
        ("oci://u:p@registry.example/x:v1", 2, "is no oci://registry/repository:tag"),
    ],
)
def test_errors_say_what_is_wrong(run: Run, address: str, status: int, told: str) -> None:
    assert told in run("--store", address, "ls", status=status)


def test_another_artifact_is_no_store(run: Run, registry: Registry, tmp_path: Path) -> None:
    need("skopeo", "umoci")
    layout = f"{tmp_path}/layout:plain"
    subprocess.run(["umoci", "init", "--layout", f"{tmp_path}/layout"], check=True)
    subprocess.run(["umoci", "new", "--image", layout], check=True)
    target = f"docker://{registry.host}/plain:v1"
    command = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}", target]
    subprocess.run(command, check=True, capture_output=True)
    error = run("--store", registry.address("plain:v1"), "ls", status=4)
    assert "holds no store" in error
