"""A proxy on loopback between a client and a real HTTP server, which fails as networks do.

It understands requests just enough to choose a fate for each: pass it on, lose the reply after the
server acted, reset the connection within the body, refuse it with 503, or stall. It adds latency
(once for a connection, once for each request) and counts what passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

Fate = Literal["pass", "lose", "reset", "refuse", "stall"]
_CHUNK = 1 << 16
_REFUSAL = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate."
    b"</Message></Error>"
)


@dataclass(frozen=True)
class Request:
    """A request's method and target, how many came before it, and how many of its method."""

    method: str
    target: str
    number: int
    of_method: int


class Span(NamedTuple):
    """When a request, or the making of a connection, began and ended; ``what`` names it."""

    begin: float
    end: float
    what: str


@dataclass
class Traffic:
    """What passed: requests by method, connections, bytes of bodies and heads each way."""

    requests: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    up: int = 0
    down: int = 0
    spans: list[Span] = field(default_factory=list)

    @property
    def rounds(self) -> list[Span]:
        """The longest row of spans that each began after the one before had ended: what must wait
        for each other at most. Its length is the number of dependent round trips.
        """
        row: list[Span] = []
        for span in sorted(self.spans, key=lambda span: span.end):
            if not row or span.begin >= row[-1].end:
                row.append(span)
        return row

    @property
    def waiting(self) -> list[str]:
        """The requests that wait for each other, without the connections, which are made once."""
        return [span.what for span in self.rounds if span.what != "connect"]

    @property
    def total(self) -> int:
        return sum(self.requests.values())


class Proxy:
    """``fate`` may be replaced at any time; ``latency`` is seconds added to each round trip."""

    def __init__(self, endpoint: str, latency: float = 0.0) -> None:
        parts = urlsplit(endpoint)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._path = parts.path
        self.latency = latency
        self.fate: Callable[[Request], Fate] = lambda request: "pass"
        self.traffic = Traffic()
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}{self._path}"

    def reset(self) -> Traffic:
        """Begin to count anew; return what was counted."""
        counted, self.traffic = self.traffic, Traffic()
        return counted

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20, backlog=4096)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.traffic.connections += 1
        _no_delay(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            begin = time.monotonic()
            await asyncio.sleep(self.latency)
            self.traffic.spans.append(Span(begin, time.monotonic(), "connect"))
            upstream = await asyncio.open_connection(self._host, self._port, limit=1 << 20)
            _no_delay(upstream[1])
            try:
                while await self._exchange(reader, writer, *upstream):
                    pass
            finally:
                upstream[1].close()
        writer.close()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> bool:
        """One request and its reply; False when the connection is over."""
        head = await reader.readuntil(b"\r\n\r\n")
        begin = time.monotonic()
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        traffic = self.traffic
        request = Request(method, target, traffic.total, traffic.requests[method])
        traffic.requests[method] += 1
        fate = self.fate(request)
        traffic.fates[fate] += 1
        traffic.up += len(head)
        await asyncio.sleep(self.latency)
        if fate == "stall":
            await asyncio.sleep(3600)
        if fate == "refuse":
            async for part in _body(reader, head):
                traffic.up += len(part)
            writer.write(
                b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n"
                b"Content-Length: %d\r\n\r\n" % len(_REFUSAL)
            )
            writer.write(b"" if method == "HEAD" else _REFUSAL)
            await writer.drain()
            return method != "HEAD"
        to_server.write(head)
        async for part in _body(reader, head):
            traffic.up += len(part)
            to_server.write(part)
            await to_server.drain()
        reply = await from_server.readuntil(b"\r\n\r\n")
        if fate == "lose":
            _abort(writer)
            return False
        traffic.down += len(reply)
        writer.write(reply)
        bodiless = method == "HEAD" or b" 204 " in reply[:20] or b" 304 " in reply[:20]
        if not bodiless:
            async for part in _body(from_server, reply):
                traffic.down += len(part)
                if fate == "reset":
                    writer.write(part[: len(part) // 2])
                    await writer.drain()
                    _abort(writer)
                    return False
                writer.write(part)
                await writer.drain()
        await writer.drain()
        traffic.spans.append(Span(begin, time.monotonic(), f"{method} {target}"))
        return b"connection: close" not in reply.lower()


async def _body(reader: asyncio.StreamReader, head: bytes) -> AsyncIterator[bytes]:
    """The body that follows a head, by its length or its chunks, as it comes."""
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
            if not size:
                return
    left = int(fields.get(b"content-length", b"0"))
    while left:
        part = await reader.read(min(left, _CHUNK))
        if not part:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(part)
        yield part


def _no_delay(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, as a router that died does."""
    linger = struct.pack("ii", 1, 0)
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def sometimes(fates: dict[Fate, float], choose: Callable[[], float]) -> Callable[[Request], Fate]:
    """Each request meets a fate with its probability; ``choose`` gives numbers below 1."""

    def fate(_: Request) -> Fate:
        number = choose()
        for name, share in fates.items():
            if number < share:
                return name
            number -= share
        return "pass"

    return fate


@contextlib.contextmanager
def proxied(endpoint: str, latency: float = 0.0) -> Iterator[Proxy]:
    with Proxy(endpoint, latency) as proxy:
        yield proxy
