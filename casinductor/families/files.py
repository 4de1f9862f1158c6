"""Any directory that the user names, file by file: the honest fallback.

Invariant: nothing is known of such files, so they demand everything of a worker, and a tag that the
user chose.
"""

from __future__ import annotations

from casinductor.families.family import Environ, Family
from casinductor.families.place import JUNK, Kind, Place, is_junk, share


def classify(path: str) -> Place:
    """The place of a file below a directory of which nothing is known."""
    return JUNK if any(map(is_junk, path.split("/"))) else share(Kind.FILE, path)


def root(environ: Environ) -> str:
    """None by default."""
    del environ
    return ""


FAMILY = Family("files", root, classify, opt_in=True)
