"""Any directory that the user names, file by file: the honest fallback.

Invariant: nothing is known of such files, so they demand everything of a worker, and a tag that the
user chose.
"""

from __future__ import annotations

from casinductor.families.family import Family, nowhere
from casinductor.families.place import JUNK, Kind, Place, has_junk, share


def classify(path: str) -> Place:
    """The place of a file below a directory of which nothing is known."""
    return JUNK if has_junk(path) else share(Kind.FILE, path)


FAMILY = Family("files", nowhere, classify, opt_in=True)
