"""Why a server cannot be reached, asked in the plainest way: look its name up, knock at its port.

Invariant: asked only after a request failed without an answer; sends nothing, waits at most
:data:`SECONDS`, raises nothing.
"""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

SECONDS = 3.0
_PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


def why_unreachable(url: str) -> str:
    """``connection refused``, ``no such host`` and their kin for the server of a URL; empty where
    it can be reached, or nobody can tell.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return ""
    if not host or any(os.environ.get(name) for name in _PROXIES):
        return ""
    where = f"{host}:{port}"
    try:
        socket.create_connection((host, port), SECONDS).close()
    except socket.gaierror:
        return f"no such host: {host}"
    except ConnectionRefusedError:
        return f"connection refused by {where}: no server listens there"
    except TimeoutError:
        return f"no answer from {where} within {SECONDS:g} s"
    except OSError as error:
        return f"{where} cannot be reached: {error.strerror or error}"
    return ""
