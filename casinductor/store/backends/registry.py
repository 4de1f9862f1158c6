"""A store as an artifact in an OCI registry: each pack and manifest is a layer under its own name.

Invariant: a tag names a whole store or nothing. Layers are content-addressed, so what the registry
has is not sent again; whoever pulls the artifact with ``oras`` or copies it with ``skopeo`` has a
store. Format: ``docs/format.md``, "OCI artifacts"; OCI distribution and image specifications 1.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from casinductor.errors import StoreUnavailable
from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.backends.repository import PARALLEL, Artifact, Layer, Repository, layer_of
from casinductor.store.backends.sealed import OpenedBackend, SealedBackend
from casinductor.store.format import names

_TRIES = 6


def open_image(address: str) -> SealedBackend:
    """The store that a tag names, to read. Raises :class:`StoreUnavailable` where it names none."""
    repository = Repository(address)
    found = repository.artifact()
    if not found.digest:
        raise StoreUnavailable(f"there is no {repository.address}: no such repository or tag")
    return _sealed(repository, found)


def opened(address: str, beside: FilesystemBackend) -> tuple[Repository, OpenedBackend]:
    """A tag to write to: what it names already, and a directory for what is new."""
    repository = Repository(address)
    return repository, OpenedBackend(_sealed(repository, repository.artifact()), beside)


def _sealed(repository: Repository, found: Artifact) -> SealedBackend:
    def read(name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        return repository.read(found.layers[name], ranges)

    sizes = {name: layer.size for name, layer in found.layers.items()}
    return SealedBackend(repository.address, sizes, read, PARALLEL)


def seal(repository: Repository, backend: OpenedBackend) -> None:
    """Send what is new, and point the tag at everything.

    What another writer put there meanwhile stays: registries have no conditional writes, so it is
    looked at before and after.
    """
    own: dict[str, Layer] = {}
    for name, _ in backend.added():
        data = backend.get(name)
        own[name] = layer_of(data)
        repository.upload(own[name], data)
    for _ in range(_TRIES):
        there = repository.artifact()
        if there.layers and own.items() <= there.layers.items():
            return
        if names.FORMAT in there.layers:
            own.pop(names.FORMAT, None)  # whoever was first named the store
        repository.put({**own, **there.layers})
    raise StoreUnavailable(f"{repository.address}: others point the tag elsewhere, again and again")
