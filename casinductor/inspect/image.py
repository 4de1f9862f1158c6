"""A cache as a container image whose files are mounted: what MCV, GKM and KServe read.

Invariant: one layer with one hash directory of vLLM's or the kernels of Triton, byte for byte as a
worker would restore it at the mount's path, and always the same for the same content. Format: MCV's
``docs/spec-compat.md`` and ``pkg/constants`` (redhat-et/GKM f0e65de), KServe's kernel-module labels
(pull request 5601), as ``docs/operations.md`` tells them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO, Any, cast

from casinductor.errors import CacheNotFound, Damaged, InvalidName
from casinductor.families import forms
from casinductor.families.place import Kind
from casinductor.inspect.facts import Facts
from casinductor.inspect.view import Item, look_at
from casinductor.store.format.names import CacheId
from casinductor.store.index.groups import File
from casinductor.store.index.union import winner
from casinductor.store.read.files import read_files
from casinductor.store.store import Store
from casinductor.util.roots import MARK, split

#: Where KServe mounts vLLM's root.
VLLM_ROOT = "/home/kserve/.cache/vllm"
TRITON_ROOT = "/home/kserve/.triton/cache"
_AOT = re.compile(r"torch_compile_cache/torch_aot_compile/([0-9a-f]{64})/")
_BINARY = re.compile(r"torch_compile_cache/([0-9a-f]{10,64})/")
_WARP = {"cuda": 32, "hip": 64}


@dataclass
class Image:
    """An image: its ``labels``, the digest and bytes of its layer (compressed) and the digest of
    its content, and the files in it and their bytes.
    """

    labels: dict[str, str] = field(default_factory=dict)
    layer_digest: str = ""
    layer_bytes: int = 0
    content_digest: str = ""
    files: int = 0
    bytes: int = 0

    def config(self) -> str:
        """The image's configuration, in which labels stand, as JSON."""
        told = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": dict(sorted(self.labels.items()))},
            "rootfs": {"type": "layers", "diff_ids": [self.content_digest]},
            "history": [{"created_by": "casinductor copy --image"}],
        }
        return json.dumps(told, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Unit:
    """What one image holds: the groups below a directory of a family."""

    family: str
    form: str
    name: str
    prefix: str

    def holds(self, item: Item) -> bool:
        family, path = split(item.version.id)
        return family.removesuffix(MARK) == self.family and path.startswith(self.prefix)


def write_image(
    store: Store, facts: Facts, cache: CacheId, named: str | None, arch: str | None, to: IO[bytes]
) -> Image:
    """Write the layer for a unit of a cache to a file, and say what it is.

    ``named``: the beginning of the unit's hash, needed where there are several; ``arch`` such as
    ``sm_90``, where the kernels do not tell. Raises :class:`CacheNotFound` where the cache holds
    nothing of vLLM's or Triton's, :class:`InvalidName` for what must be said, :class:`Damaged` for
    bytes that cannot be had.
    """
    view = look_at(store, facts, cache, runs=0)
    unit = _choose(view.items, cache, named)
    items = _living(item for item in view.items if unit.holds(item))
    image = Image(_labels_of_worker(items, cache))
    backend, target = _target(items, arch, cache)
    root = VLLM_ROOT if unit.family == "vllm" else TRITON_ROOT
    top = "io.vllm.cache" if unit.family == "vllm" else "io.triton.cache"
    _write_layer(store, items, root, top, _manifest(unit, items, backend, target), image, to)
    _label(unit, items, backend, target, image)
    return image


def _choose(items: list[Item], cache: CacheId, named: str | None) -> Unit:
    found = sorted({unit for item in items if (unit := _unit_of(item))}, key=lambda u: u.name)
    chosen = [unit for unit in found if named is None or unit.name.startswith(named)]
    if not found:
        raise CacheNotFound(f"{cache} holds nothing of vLLM's or Triton's that could be mounted")
    if len(chosen) != 1:
        there = ", ".join(unit.name for unit in found[:6])
        raise InvalidName(f"{cache} holds {len(found)} of them; name one with --hash: {there}")
    return chosen[0]


def _unit_of(item: Item) -> Unit | None:
    family, path = split(item.version.id)
    if family == f"vllm{MARK}":
        for form, pattern in (("aot_compile", _AOT), ("binary", _BINARY)):
            if match := pattern.match(path + "/"):
                return Unit("vllm", form, match[1], match[0])
    if family == f"triton{MARK}" and item.version.kind == Kind.TRITON.value:
        return Unit("triton", "triton", "triton", "")
    return None


def _living(items: Iterable[Item]) -> list[Item]:
    """One version of each group, as a restore chooses."""
    rivals: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        rivals[item.version.id].append(item)
    found = []
    for name in sorted(rivals):
        chosen = winner([item.version for item in rivals[name]])
        found += [item for item in rivals[name] if item.version == chosen]
    return found


def _target(items: list[Item], arch: str | None, cache: CacheId) -> tuple[str, str]:
    """Backend and architecture of the kernels: as they tell, or as the caller says."""
    told = {
        (str(item.fact["backend"]), str(item.fact["arch"]))
        for item in items
        if item.fact.get("backend") and item.fact.get("arch")
    }
    if len(told) > 1:
        raise InvalidName(f"{cache} holds kernels for {len(told)} targets: {sorted(told)}")
    if told:
        backend, number = told.pop()
        return backend, number
    if arch is None:
        raise InvalidName(f"no kernel of {cache} says its target: give --arch, such as sm_90")
    return ("cuda", arch.removeprefix("sm_")) if arch.startswith("sm_") else ("hip", arch)


def _labels_of_worker(items: list[Item], cache: CacheId) -> dict[str, str]:
    """Labels of our own, for what those of MCV leave out."""
    labels = {"casinductor.gpu": cache.gpu, "casinductor.key": cache.key}
    for item in items:
        for name, value in item.demands.items():
            text = ",".join(value) if isinstance(value, list) else str(value)
            if name in _DEMANDS and text not in ("", "none"):
                labels.setdefault(f"casinductor.{name}", text)
    return labels


_DEMANDS = (
    *("torch", "triton", "accelerator", "python", "platform", "libc"),
    *("isa", "flags", "device", "packages", "rank"),
)


def _write_layer(
    store: Store,
    items: list[Item],
    root: str,
    top: str,
    manifest: bytes,
    image: Image,
    to: IO[bytes],
) -> None:
    members = store.catalog.groups.files([item.version for item in items])
    files = [file for item in items for file in members[item.version.row]]
    compressed, content = _Hashing(to), hashlib.sha256()
    with gzip.GzipFile("", "wb", 6, cast("Any", compressed), mtime=0) as packed:
        hashed = cast("Any", _Hashing(packed, content))
        with tarfile.open(fileobj=hashed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for file, data in _contents(store, files):
                path = split(file.path)[1]
                whole = forms.localize(file.path, data, root, 0)
                _add(archive, f"{top}/{path}", whole, file.mode)
                image.files += 1
                image.bytes += len(whole)
            _add(archive, f"{top.rpartition('.')[0]}.manifest/manifest.json", manifest, 0o644)
    image.layer_digest = f"sha256:{compressed.digest.hexdigest()}"
    image.layer_bytes, image.content_digest = compressed.size, f"sha256:{content.hexdigest()}"


def _contents(store: Store, files: list[File]) -> Iterable[tuple[File, bytes]]:
    for file, data in read_files(store, sorted(files, key=lambda file: file.path)):
        if data is None:
            raise Damaged(f"{file.path} is missing or damaged in the store")
        yield file, data


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))


class _Hashing:
    """A file to write to that knows the digest and number of what was written."""

    def __init__(self, to: Any, digest: Any = None) -> None:
        self._to = to
        self.digest = digest if digest is not None else hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        self._to.write(data)
        return len(data)

    def flush(self) -> None:
        self._to.flush()

    def tell(self) -> int:
        return self.size


def _manifest(unit: Unit, items: list[Item], backend: str, arch: str) -> bytes:
    """What stands beside the files: MCV's list of entries."""
    if unit.family == "triton":
        entries: list[dict[str, Any]] = [
            {
                "hash": item.version.id.rpartition("/")[2].rpartition(MARK)[2],
                "dummy_key": "",
                "ptx_version": item.fact.get("ptx_version") or 0,
                "num_stages": item.fact.get("stages") or 0,
                "num_warps": item.fact.get("warps") or 0,
                "debug": False,
                "backend": item.fact.get("backend") or backend,
                "arch": str(item.fact.get("arch") or arch),
                "warp_size": _WARP.get(backend, 32),
            }
            for item in items
        ]
        return json.dumps({"triton": entries}, sort_keys=True).encode()
    entry: dict[str, Any] = {"vllmHash": unit.name, "cacheFormat": unit.form}
    indexes = [item for item in items if item.version.kind == Kind.INDEX.value]
    models = [item for item in items if item.version.kind == Kind.MODEL.value]
    if unit.form == "binary":
        entry["binary"] = [
            {
                "rank": item.version.id.split("/")[2],
                "prefix": item.version.id.rpartition("/")[2],
                "artifact_count": item.files,
                "cache_save_format": "binary",
                "target_device": backend,
            }
            for item in indexes
        ]
    else:
        entry["aot_compile"] = [
            {
                "hash": unit.name,
                "rank": item.version.id.split("/")[3],
                "model_file": "model",
                "file_size": item.bytes,
            }
            for item in models
        ]
    return json.dumps({"vllm": [entry]}, sort_keys=True).encode()


def _label(unit: Unit, items: list[Item], backend: str, arch: str, image: Image) -> None:
    kind = unit.family
    shown = f"sm_{arch}" if backend == "cuda" and kind == "vllm" else arch
    target = {"backend": backend, "arch": shown, "warp_size": _WARP.get(backend, 32)}
    count = len(items) if kind == "triton" else 1
    image.labels |= {
        "org.opencontainers.image.title": unit.name,
        f"cache.{kind}.image/entry-count": str(count),
        f"cache.{kind}.image/cache-size-bytes": str(image.bytes),
        f"cache.{kind}.image/summary": json.dumps({"targets": [target]}),
    }
    if kind == "vllm":
        subpath = unit.prefix.rstrip("/").rpartition("/")[0]
        image.labels |= {
            "cache.vllm.image/format": unit.form,
            "io.kserve.km/framework": "vllm",
            "io.kserve.km/cache-type": "torch-compile",
            "io.kserve.km/cache-hash": unit.name,
            "io.kserve.km/cache-mount-subpath": subpath,
            "io.kserve.km/cache-root-env": f"VLLM_CACHE_ROOT={VLLM_ROOT}",
        }
