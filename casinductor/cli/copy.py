"""``casinductor copy``: caches from one store to another, or into a bundle and out of it.

Invariant: only what the destination lacks is moved; a copy that is killed goes on at the next one.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.util.human import counted, size

if TYPE_CHECKING:
    from casinductor.settings import Settings
    from casinductor.store.format.names import CacheId
    from casinductor.store.maintain.copying import CopyReport
    from casinductor.store.store import Store


@click.command(cls=Command)
@click.argument("source")
@click.argument("target", metavar="DEST")
@click.argument("caches", nargs=-1, metavar="[CACHE]...")
@click.option(
    "--level",
    type=click.IntRange(1, 19),
    help="Compress what is written with zstd (default: 12 into a bundle or registry).",
)
@click.option("--image", is_flag=True, help="Write an image to be mounted, for KServe or MCV.")
@click.option("--hash", "named", metavar="HASH", help="With --image, which hash of vLLM's.")
@click.option("--arch", metavar="ARCH", help="With --image, the target where no kernel says it.")
@command_options
def command(
    options: Options,
    source: str,
    target: str,
    caches: tuple[str, ...],
    level: int | None,
    image: bool,
    named: str | None,
    arch: str | None,
) -> None:
    """Copy caches from the store SOURCE to the store DEST.

    Each is a directory, a URL, a bundle (a file FILE.casi) or a tag in a registry
    (oci://registry/repository:tag). CACHE may be a pattern; without one all caches are copied.

    \b
    Examples:
      casinductor copy s3://here/caches s3://there/caches 'H100/prod-*'
      casinductor copy /data/inductor-caches bert.casi H100/bert/v1
      casinductor copy bert.casi /mnt/inductor-caches
      casinductor copy /data/inductor-caches oci://registry.example/ml/bert:v1 H100/bert/v1
      casinductor copy /data/inductor-caches oci://registry.example/ml/llama:v1 vllm/llama --image
    """
    from msgspec.structs import replace

    from casinductor.errors import Damaged
    from casinductor.settings import default_state_dir
    from casinductor.store.backends.address import is_bundle
    from casinductor.store.backends.writing import writable
    from casinductor.store.format.frame import Codec
    from casinductor.store.maintain.copying import copy_cache

    given = options.settings()
    if image:
        _image(options, replace(given, store=source), target, caches, named, arch)
        return
    there, here = (replace(given, store=address) for address in (source, target))
    packed = level is not None or is_bundle(target) or target.startswith("oci://")
    codec = Codec.ZSTD if packed else Codec.LZ4

    def work(origin: Store) -> list[CopyReport]:
        origin.require_there()
        chosen = _chosen(origin, caches, options.gpu_type())
        return options.on_store(
            here,
            lambda store: [copy_cache(origin, store, c, codec, level or 12) for c in chosen],
        )

    with writable(target, given.state_dir or default_state_dir()):
        reports = options.on_store(there, work)
    options.emit([report.as_dict() for report in reports], [_line(r) for r in reports])
    lost = sum(len(report.lost) for report in reports)
    if lost:
        raise Damaged(
            f"{counted(lost, 'group')} of {source} cannot be read and stayed behind; run "
            "casinductor repair there"
        )


def _image(
    options: Options,
    settings: Settings,
    target: str,
    caches: tuple[str, ...],
    named: str | None,
    arch: str | None,
) -> None:
    """Write one cache's files as an image's layer."""
    from casinductor.inspect.image import Image, write_image
    from casinductor.inspect.view import open_facts
    from casinductor.store.backends.repository import SCHEME, Layer, Repository

    if len(caches) != 1 or not target.startswith(SCHEME):
        raise click.UsageError("--image takes one CACHE, and a DEST that begins with oci://")
    repository = Repository(target)

    with open_facts(settings) as facts, tempfile.TemporaryFile() as layer:

        def work(store: Store) -> Image:
            store.require_there()
            (cache,) = _chosen(store, caches, options.gpu_type())
            return write_image(store, facts, cache, named, arch, layer)

        made = options.on_store(settings, work)
        layer.seek(0)
        found = Layer(made.layer_digest, made.layer_bytes)
        repository.put_image(made.config().encode(), found, layer)
    line = (
        f"{repository.address}: {counted(made.files, 'file')}, {size(made.bytes)} as "
        f"{size(made.layer_bytes)}, {made.labels['org.opencontainers.image.title']}"
    )
    options.emit(asdict(made), [line])


def _chosen(origin: Store, named: tuple[str, ...], gpu: str) -> list[CacheId]:
    """The caches of these names and patterns, all for none. Raises :class:`CacheNotFound`."""
    from casinductor.errors import CacheNotFound
    from casinductor.store.lookup import find_cache

    if not named:
        if there := origin.caches():
            return there
        raise CacheNotFound(f"{origin.backend.url} holds no cache")
    found: dict[CacheId, None] = {}
    for name in named:
        if any(sign in name for sign in "*?["):
            matching = [c for c in origin.caches() if fnmatchcase(str(c), name)]
            if not matching:
                raise CacheNotFound(f"no cache of {origin.backend.url} matches {name}")
            found |= dict.fromkeys(matching)
        else:
            found[find_cache(origin.backend, name, gpu)] = None
    return list(found)


def _line(report: CopyReport) -> str:
    if not report.groups:
        return f"{report.cache}: all {counted(report.groups_there, 'group')} there already"
    return (
        f"{report.cache}: {counted(report.groups, 'group')}, {counted(report.files, 'file')}, "
        f"{size(report.bytes)} copied as {size(report.bytes_written)} ({report.seconds:.2f} s); "
        f"{counted(report.groups_there, 'group')} there already"
    )
