"""One repository of an OCI registry: artifacts and images, layers read in ranges and put by digest.

Invariant: what is put is named by its digest, so nothing is overwritten but what a tag names;
requests wait a bounded time and their errors name the server's reason, never a credential. OCI
distribution specification 1.1; credentials by the library ``oras``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from casinductor.errors import (
    Damaged,
    InvalidName,
    ObjectMissing,
    StoreReadOnly,
    StoreUnavailable,
    Unsupported,
)
from casinductor.store.backends.sealed import is_content
from casinductor.store.backends.unreachable import why_unreachable

SCHEME = "oci://"
ARTIFACT = "application/vnd.casinductor.store.v1"
LAYER = "application/vnd.casinductor.object.v1"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
#: Requests in flight that are worth their memory.
PARALLEL = 8
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_TAR = "application/vnd.oci.image.layer.v1.tar+gzip"
_SECONDS = (5.0, 60.0)
_MOST_MANIFEST_BYTES = 4 << 20
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_WRITING = ("PUT", "POST", "PATCH", "DELETE")


class Layer(NamedTuple):
    """A blob of the registry: its digest and bytes."""

    digest: str
    size: int


@dataclass
class Artifact:
    """What a tag names: its digest, and the layers of a store by object name."""

    digest: str = ""
    layers: dict[str, Layer] = field(default_factory=dict)


class Repository:
    """One repository of a registry; ``address`` such as ``oci://host/team/cache:v1``.

    Raises :class:`InvalidName` for an address that makes no sense, :class:`Unsupported` without
    the library ``oras``.
    """

    def __init__(self, address: str) -> None:
        try:
            from oras.container import Container
            from oras.provider import Registry
        except ImportError as error:
            raise Unsupported(f"{address} needs oras: pip install 'casinductor[oci]'") from error
        parts = urlsplit(address)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if not parts.netloc or not parts.path.strip("/") or "@" in parts.netloc:
            raise InvalidName(f"{address} is no oci://registry/repository:tag")
        if set(options) - {"plain_http"} or parts.fragment:
            raise InvalidName(f"{address}: only plain_http=1 may follow the question mark")
        name = f"{parts.netloc}{parts.path}"
        self.address = f"{SCHEME}{name}"
        self._plain = options.get("plain_http") == "1" or parts.hostname in _THIS_MACHINE
        try:
            self.container = Container(name)
        except ValueError as error:
            raise InvalidName(f"{address} is no oci://registry/repository:tag") from error
        self._registry = Registry(insecure=self._plain)
        for scheme in ("http://", "https://"):
            self._registry.session.mount(scheme, _adapter())
        self._registry.auth.load_configs(self.container)

    def artifact(self) -> Artifact:
        """What the tag names; an empty one where it names nothing."""
        answer = self.ask(
            "GET", self.container.manifest_url(), {"Accept": MANIFEST}, allowed=(404,)
        )
        if answer.status_code == 404:
            return Artifact()
        data = answer.content
        try:
            told = json.loads(data)
            if told.get("artifactType") != ARTIFACT:
                raise ValueError(f"it is no {ARTIFACT}")
            layers = {
                str(layer["annotations"][TITLE]): Layer(str(layer["digest"]), int(layer["size"]))
                for layer in told["layers"]
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{self.address} holds no store: {error}") from error
        known = {name: layer for name, layer in layers.items() if is_content(name)}
        return Artifact(f"sha256:{hashlib.sha256(data).hexdigest()}", known)

    def read(self, layer: Layer, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Ranges of a layer, each by a request."""
        url = self.container.get_blob_url(layer.digest)
        for offset, length in ranges:
            if not length:
                yield b""
                continue
            headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
            answer = self.ask("GET", url, headers)
            data = answer.content
            if answer.status_code == 200:  # a registry that knows no ranges sends all of it
                data = data[offset : offset + length]
            if len(data) != length:
                raise Damaged(f"{self.address}: {layer.digest} is shorter than it should be")
            yield data

    def upload(self, layer: Layer, data: bytes | IO[bytes]) -> None:
        """Put a blob, in memory or from a file that stands at its beginning, unless it is there."""
        url = self.container.get_blob_url(layer.digest)
        if self.ask("HEAD", url, allowed=(404,)).status_code == 200:
            return
        begun = self.ask("POST", self.container.upload_blob_url())
        session = begun.headers.get("Location", "")
        if not session.startswith("http"):
            session = f"{self._registry.prefix}://{self.container.registry}{session}"
        sign = "&" if "?" in session else "?"
        self.ask(
            "PUT",
            f"{session}{sign}digest={layer.digest}",
            {"Content-Type": "application/octet-stream", "Content-Length": str(layer.size)},
            data,
        )

    def put(self, layers: dict[str, Layer]) -> None:
        """Point the tag at these layers, which are all there."""
        empty = layer_of(_EMPTY)
        self.upload(empty, _EMPTY)
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT,
            "config": {"mediaType": _EMPTY_TYPE, "digest": empty.digest, "size": empty.size},
            "layers": [
                {
                    "mediaType": LAYER,
                    "digest": layer.digest,
                    "size": layer.size,
                    "annotations": {TITLE: name},
                }
                for name, layer in sorted(layers.items())
            ],
        }
        self._put_manifest(document)

    def put_image(self, config: bytes, layer: Layer, data: IO[bytes]) -> None:
        """Point the tag at an image of one gzip layer."""
        own = layer_of(config)
        self.upload(own, config)
        self.upload(layer, data)
        self._put_manifest(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": _CONFIG, "digest": own.digest, "size": own.size},
                "layers": [{"mediaType": _TAR, "digest": layer.digest, "size": layer.size}],
            }
        )

    def _put_manifest(self, document: dict[str, Any]) -> None:
        layers = document["layers"]
        data = json.dumps(document, separators=(",", ":")).encode()
        if len(data) > _MOST_MANIFEST_BYTES:
            raise StoreUnavailable(
                f"{self.address} would have {len(layers):,} layers, more than a registry takes; "
                "compact the caches first, or copy fewer into one tag"
            )
        self.ask("PUT", self.container.manifest_url(), {"Content-Type": MANIFEST}, data)

    def _request(self, method: str, url: str, headers: dict[str, str], data: Any) -> Any:
        """Ask, and once more with what the registry wants to know. The library's own request tries
        for minutes where there is no server.
        """
        session, auth = self._registry.session, self._registry.auth
        if getattr(auth, "token", None):
            headers.update(auth.get_auth_header())
        answer = session.request(method, url, data=data, headers=headers)
        if answer.status_code not in (401, 403):
            return answer
        if answer.headers.get("WWW-Authenticate", "").lower().startswith("basic"):
            login = getattr(auth, "_basic_auth", None)  # what it read of docker's configuration
            headers, changed = {**headers, "Authorization": f"Basic {login}"}, bool(login)
        else:
            headers, changed = auth.authenticate_request(answer, headers)
        return session.request(method, url, data=data, headers=headers) if changed else answer

    def ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | IO[bytes] | None = None,
        allowed: tuple[int, ...] = (),
    ) -> Any:
        """One request, with the registry's own way to authenticate; raises what errors mean."""
        import requests

        full = url if url.startswith("http") else f"{self._registry.prefix}://{url}"
        try:
            answer = self._request(method, full, dict(headers or {}), data)
        except (requests.RequestException, ValueError) as error:
            reason = why_unreachable(full) or str(error).split("\n", 1)[0][:200]
            raise StoreUnavailable(f"{method} {self.address} failed: {reason}") from error
        status = answer.status_code
        if status < 300 or status in allowed:
            return answer
        sentence = f"{method} {self.address} failed: {status} {_reason(answer)}"
        if status in (401, 403):
            raise StoreReadOnly(sentence) if method in _WRITING else StoreUnavailable(sentence)
        raise ObjectMissing(sentence) if status == 404 else StoreUnavailable(sentence)


def layer_of(data: bytes) -> Layer:
    return Layer(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


def _reason(answer: Any) -> str:
    try:
        told = answer.json()["errors"][0]
        return f"{told.get('code', '')} {told.get('message', '')}".strip()[:200]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return str(answer.reason or "")[:200]


def _adapter() -> Any:
    """Bounded waits, and retries of what did no harm."""
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    class Bounded(HTTPAdapter):
        def send(self, request: Any, **given: Any) -> Any:  # type: ignore[override]
            given["timeout"] = given.get("timeout") or _SECONDS
            return super().send(request, **given)

    codes = (429, 500, 502, 503, 504)
    return Bounded(
        pool_maxsize=PARALLEL,
        max_retries=Retry(4, backoff_factor=0.2, status_forcelist=codes, raise_on_status=False),
    )
