"""Addresses of stores: a directory or a URL, and the backend for it.

Invariant: an address never carries a secret, and two addresses of one place give one ``url``, by
which catalogs and records know the store. What an address leaves open comes from where each
platform's own tools look (``docs/objects.md``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from casinductor.errors import InvalidName, Unsupported
from casinductor.store.backend import Backend
from casinductor.store.backends.filesystem import FilesystemBackend

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

#: Endpoint and account, where they are said, and the client's settings.
Place = tuple["str | None", "str | None", "dict[str, Any]"]

#: What may follow the "?" of a URL, by scheme.
OPTIONS = {
    "s3": {"endpoint", "region", "profile", "anonymous", "virtual_hosted"},
    "gs": {"endpoint", "anonymous"},
    "az": {"account", "endpoint", "anonymous"},
}
_ALIASES = {"s3a": "s3", "gcs": "gs", "azure": "az"}
BUNDLE_SUFFIX = ".casi"
#: Sealed stores that this process has opened for writing, by path.
PREPARED: dict[str, Backend] = {}
#: Without a deadline a request may take so long, in seconds.
_PATIENCE = 300.0
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0


def open_backend(address: str, seconds: float | None = None) -> Backend:
    """The backend for a directory or URL; ``seconds`` is the time its caller has in all.

    Raises :class:`InvalidName` for an address that makes no sense, :class:`Unsupported` for a
    scheme or credentials that nothing here can use.
    """
    scheme, separator, rest = address.partition("://")
    if scheme == "oci" and separator:
        from casinductor.store.backends.registry import open_image

        return PREPARED.get(address) or open_image(address)
    if separator and scheme != "file":
        return _open_objects(address, _ALIASES.get(scheme.lower(), scheme.lower()), seconds)
    path = absolute(rest if separator else address)
    if is_bundle(str(path)):
        from casinductor.store.backends.bundle import open_bundle

        return PREPARED.get(str(path)) or open_bundle(path)
    return FilesystemBackend(path)


def is_bundle(address: str) -> bool:
    """Whether an address means a bundle: a file's name that ends so, and no directory."""
    return address.endswith(BUNDLE_SUFFIX) and not os.path.isdir(address)


def absolute(address: str) -> Path:
    """The path that an address is. Raises :class:`InvalidName`."""
    path = Path(address).expanduser()
    if not str(path).strip() or "\0" in str(path):
        raise InvalidName(f"the store address {address!r} is not a directory")
    return path if path.is_absolute() else Path.cwd() / path


def _open_objects(address: str, scheme: str, seconds: float | None) -> Backend:
    if scheme not in OPTIONS:
        known = ", ".join(f"{name}://" for name in (*OPTIONS, "oci"))
        raise Unsupported(f"the store {address} is neither a directory nor one of {known}")
    bucket, prefix, options = _parse(address, scheme)
    url = f"{scheme}://{bucket}" + (f"/{prefix}" if prefix else "")
    endpoint, account, config = {"s3": _s3, "gs": _gs, "az": _az}[scheme](options)
    if options.get("anonymous") == "1":
        config["skip_signature"] = True
    told = [f"account={account}"] if account else []
    told += [f"endpoint={endpoint}"] if endpoint else []
    limit = _PATIENCE if seconds is None else seconds
    plain = bool(endpoint and endpoint.startswith("http://"))
    try:
        from obstore import store as clients

        kind: Any = {"s3": clients.S3Store, "gs": clients.GCSStore, "az": clients.AzureStore}[
            scheme
        ]
        reader, writer = (
            kind(
                bucket,
                prefix=prefix or None,
                client_options=_client(request, limit, plain),
                retry_config=_retry(limit),
                **config,
            )
            for request in (min(_READ_SECONDS, limit / 2), limit / 2)
        )
    except Exception as error:
        first = str(error).split("\n", 1)[0]
        raise Unsupported(f"the store {address} cannot be opened: {first}") from error
    from casinductor.store.backends.objects import ObjectBackend

    return ObjectBackend(url + ("?" + "&".join(told) if told else ""), reader, writer, limit / 2)


def _client(request: float, limit: float, plain: bool) -> ClientConfig:
    """Time limits of one request; whole seconds would round a short deadline to nothing."""
    return {
        "timeout": timedelta(seconds=request),
        "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, limit / 2)),
        "allow_http": plain,
    }


def _retry(limit: float) -> RetryConfig:
    """Retries with jitter (the client's exponential backoff has it) for half of the time."""
    return {
        "max_retries": 10,
        "retry_timeout": timedelta(seconds=limit / 2),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=min(5.0, limit / 8)),
            "base": 2,
        },
    }


def _parse(address: str, scheme: str) -> tuple[str, str, dict[str, str]]:
    """Bucket, prefix and options of a URL; raises :class:`InvalidName`."""
    parts = urlsplit(address)
    if "@" in parts.netloc:
        raise InvalidName(
            f"the store address {scheme}://… holds credentials; they belong elsewhere"
        )
    shown = f"the store address {address!r}"
    bucket, prefix = parts.netloc, unquote(parts.path).strip("/")
    if not bucket or parts.fragment:
        raise InvalidName(f"{shown} names no bucket" if not bucket else f"{shown} has a '#'")
    if any(not part or part in (".", "..") for part in prefix.split("/") if prefix):
        raise InvalidName(f"{shown} has an empty part, or one of dots")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options.items():
        if name not in OPTIONS[scheme]:
            known = ", ".join(sorted(OPTIONS[scheme]))
            raise InvalidName(f"{shown} has the option {name[:40]!r}; {scheme}:// knows {known}")
        if name in ("anonymous", "virtual_hosted") and value not in ("0", "1"):
            raise InvalidName(f"{shown}: {name} must be 0 or 1")
    return bucket, prefix, options


def _endpoint(options: Mapping[str, str], *variables: str) -> str | None:
    """The endpoint of the options or the first of some environment variables."""
    found = options.get("endpoint") or next(
        (value for name in variables if (value := os.environ.get(name))), None
    )
    if found is None:
        return None
    parts = urlsplit(found if "://" in found else f"https://{found}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidName(f"the endpoint {found!r} is not an http or https address")
    if "@" in parts.netloc:
        raise InvalidName("the endpoint holds credentials; they belong elsewhere")
    return parts.geturl().rstrip("/")


def _s3(options: Mapping[str, str]) -> Place:
    from casinductor.store.backends import credentials

    profile = credentials.aws(os.environ, options.get("profile"))
    endpoint = _endpoint(options, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = endpoint or profile.endpoint
    region = (
        options.get("region")
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or profile.region
        or "us-east-1"
    )
    config: dict[str, Any] = {"region": region, **profile.config}
    if profile.provider is not None:
        config["credential_provider"] = profile.provider
    if endpoint:
        config["endpoint"] = endpoint
    if "virtual_hosted" in options:
        config["virtual_hosted_style_request"] = options["virtual_hosted"] == "1"
    return endpoint, None, config


def _gs(options: Mapping[str, str]) -> Place:
    endpoint = _endpoint(options, "STORAGE_EMULATOR_HOST")
    config: dict[str, Any] = {"base_url": endpoint} if endpoint else {}
    return endpoint, None, config


def _az(options: Mapping[str, str]) -> Place:
    from casinductor.store.backends import credentials

    config: dict[str, Any] = credentials.azure(os.environ)
    account = (
        options.get("account")
        or config.get("account_name")
        or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    )
    if account:
        config["account_name"] = account
    endpoint = _endpoint(options, "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
    endpoint = endpoint or config.pop("endpoint", None)
    if endpoint:
        config["endpoint"] = endpoint
    return endpoint, account, config
