"""Takes away from a local directory what was hidden from every worker since it was restored.

Invariant: only a file that has, byte for byte, the content of a hidden group goes, and none that a
group in sight has too.
"""

from __future__ import annotations

import os
from contextlib import suppress

from casinductor.inductor.directory import walk
from casinductor.job import Job
from casinductor.restore.local import LocalFiles
from casinductor.store.index.catalog import Catalog
from casinductor.store.index.groups import File
from casinductor.store.index.union import versions
from casinductor.util.roots import locate


def withdraw(catalog: Catalog, job: Job, local: LocalFiles, hidden: set[bytes]) -> int:
    """Remove the files of groups of the cache that have these contents; how many."""
    with catalog.reading():
        everything = versions(catalog, job.cache, even_hidden=True)
        members = catalog.groups.files(v for v in everything if v.content in hidden)
        seen = catalog.groups.files(v for v in everything if v.content not in hidden)
    living = {(file.path, file.hash) for file in _all(seen)}
    files = walk(job.roots).files
    gone = {
        file.path
        for file in _all(members)
        if (file.path, file.hash) not in living
        and file.path in files
        and local.is_same(file, files[file.path])
    }
    for path in gone:
        with suppress(FileNotFoundError):
            os.unlink(locate(job.roots, path))
    return len(gone)


def _all(members: dict[int, list[File]]) -> list[File]:
    return [file for files in members.values() for file in files]
