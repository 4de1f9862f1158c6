"""What a local directory held when a cache was loaded, so that a sync can tell what came since.

Invariant: a file counts as used by this worker only if its access time moved after the snapshot;
where the mount keeps no access times, no foreign file ever counts as used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import msgspec

from casinductor.util.roots import Where, locate, roots_of
from casinductor.worker.lock import private_folder

_SECOND = 1_000_000_000


class FileLike(Protocol):
    """What a snapshot needs to know of a file: see ``inductor.directory.Found``."""

    @property
    def stamp(self) -> tuple[int, int, int, int]: ...
    @property
    def atime(self) -> int: ...


class Snapshot(msgspec.Struct):
    """``stamps`` by path; ``own``: paths of the loaded cache; ``contents``: its groups' contents by
    id, ``group_of``: the same by path; ``keeps_atime``: reads can be seen.
    """

    where: Where
    stamps: dict[str, tuple[int, int, int, int]] = msgspec.field(default_factory=dict)
    own: set[str] = msgspec.field(default_factory=set)
    contents: dict[str, bytes] = msgspec.field(default_factory=dict)
    group_of: dict[str, bytes] = msgspec.field(default_factory=dict)
    keeps_atime: bool = False

    @property
    def root(self) -> str:
        """Torch's directory."""
        return roots_of(self.where).main

    def changed(self, path: str, file: FileLike) -> bool:
        """Whether the file is new, or not the one that lay there.

        A foreign file's change time is left out, as setting its access time moves it.
        """
        before, now = self.stamps.get(path), file.stamp
        if before is None or path in self.own:
            return before != now
        return (before[0], before[1], before[3]) != (now[0], now[1], now[3])

    def used(self, file: FileLike) -> bool:
        """Whether somebody read the file after its access time was set back."""
        return self.keeps_atime and file.atime > file.stamp[1]


def take_snapshot(
    where: Where,
    files: Mapping[str, FileLike],
    own: Mapping[str, bytes],
    contents: dict[str, bytes],
) -> Snapshot:
    """Remember ``files``; set the access times of those not ``own`` to before their modification.

    ``own``: the contents of the cache's groups by the paths of their files.
    Under relatime the kernel then records the first read (mount(8)).
    """
    mine = {path: content for path, content in own.items() if path in files}
    snapshot = Snapshot(where, own=set(mine), contents=dict(contents), group_of=mine)
    foreign = [path for path in files if path not in mine]
    snapshot.keeps_atime = keeps_atime(snapshot.root)
    for path, file in files.items():
        snapshot.stamps[path] = file.stamp
    if snapshot.keeps_atime:
        for path in foreign:
            modified = files[path].stamp[1]
            with suppress(OSError):
                os.utime(locate(where, path), ns=(modified - _SECOND, modified))
    return snapshot


def snapshot_since(where: Where, files: Mapping[str, FileLike], since: float) -> Snapshot:
    """As if nothing but what is older than ``since`` (Unix time) had lain there."""
    old = {path: file.stamp for path, file in files.items() if file.stamp[1] < since * _SECOND}
    return Snapshot(where, stamps=old)


def keeps_atime(root: str) -> bool:
    """Try it on a file of our own: does reading move the access time?"""
    path = os.path.join(private_folder(root), f"atime-{os.getpid()}")
    try:
        with open(path, "wb") as file:
            file.write(b"probe")
        now = os.stat(path).st_mtime_ns
        os.utime(path, ns=(now - _SECOND, now))
        with open(path, "rb") as file:
            file.read()
        return os.stat(path).st_atime_ns > now - _SECOND
    except OSError:
        return False
    finally:
        with suppress(OSError):
            os.unlink(path)
