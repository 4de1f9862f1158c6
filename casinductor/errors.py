"""The exceptions casinductor raises, each with a stable code and a process exit status.

Invariant: every error that leaves the library is a :class:`CasinductorError`; its message is one
sentence that names what failed and where, its ``code`` never changes between releases, and its
``exit_status`` is what the command line returns for it (table in ``docs/cli.md``).
"""

from __future__ import annotations

import errno
import os


class CasinductorError(Exception):
    """Base of all errors; catch it to catch everything casinductor raises on purpose."""

    code = "error"
    exit_status = 1


class InvalidName(CasinductorError, ValueError):
    """A cache key, a GPU type or a store address that no store could hold."""

    code = "invalid-name"
    exit_status = 2


class StoreUnavailable(CasinductorError):
    """The store cannot be reached or an operation on it failed."""

    code = "store-unavailable"
    exit_status = 3


class StoreFull(StoreUnavailable):
    """The store has no space or quota left; nothing was published."""

    code = "store-full"


class StoreReadOnly(StoreUnavailable):
    """The store refuses writes from this worker; restores still work."""

    code = "store-read-only"


class ObjectMissing(StoreUnavailable):
    """An object that was named is not there: a miss, never a reason to stop a worker."""

    code = "object-missing"


class NameTaken(StoreUnavailable):
    """A fresh name was published twice: nothing was overwritten."""

    code = "name-taken"


class StoreFormat(CasinductorError):
    """The store was written by a format this version does not read."""

    code = "store-format"
    exit_status = 4


class Damaged(CasinductorError):
    """Bytes read from the store are not what was published."""

    code = "damaged"
    exit_status = 4


class CacheNotFound(CasinductorError):
    """The store holds nothing under this GPU type and cache key."""

    code = "cache-not-found"
    exit_status = 5


class NothingDone(CasinductorError):
    """There was nothing to publish, or nothing that this worker may load."""

    code = "nothing"
    exit_status = 9


class Compiled(CasinductorError):
    """A run that was to find everything in the cache compiled something."""

    code = "compiled"
    exit_status = 10


class Untrusted(CasinductorError):
    """A manifest that no trusted key signed, or a worker that may not publish: both only where keys
    are set.
    """

    code = "untrusted"
    exit_status = 11


class HostilePath(CasinductorError):
    """A path, mode or size from the store that would leave or harm the local directory."""

    code = "hostile-path"
    exit_status = 4


class LocalDirectory(CasinductorError):
    """The worker's local directory cannot be read or written."""

    code = "local-directory"
    exit_status = 6


class DeadlineExceeded(CasinductorError):
    """The store took longer than the time allowed; the worker compiles instead."""

    code = "deadline"
    exit_status = 7


class Unsupported(CasinductorError):
    """Something this installation cannot do, such as an address it has no backend for."""

    code = "unsupported"
    exit_status = 8


class CatalogDamaged(Exception):
    """Internal: the catalog contradicts its own checksums; it is rebuilt from the store."""


class CatalogChanged(Exception):
    """Internal: another process of this machine dropped rows that were just read; what was being
    done begins again.
    """


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}


def store_error(
    error: OSError, doing: str, where: str, *, writing: bool = False
) -> StoreUnavailable:
    """Translate an ``OSError`` of a store's filesystem into the tree above.

    ``doing`` is a verb phrase ("writing"), ``where`` the path or URL. ENOENT and ESTALE become
    :class:`ObjectMissing`, as a stale NFS handle means that the file was removed.
    """
    sentence = f"{doing} {where} failed: {error.strerror or error}"
    if error.errno in _FULL:
        return StoreFull(sentence)
    if writing and error.errno in _FORBIDDEN:
        whom = "a read-only filesystem" if error.errno == errno.EROFS else f"uid {os.geteuid()}"
        return StoreReadOnly(f"the store is read-only for {whom}: {sentence}")
    if not writing and error.errno in (errno.ENOENT, errno.ESTALE):
        return ObjectMissing(sentence)
    return StoreUnavailable(sentence)
