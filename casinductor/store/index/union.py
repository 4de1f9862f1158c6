"""The content of a cache: the union of its manifests, resolved group by group.

Invariant: the outcome is a function of the set of manifests alone, whatever order they were read
in. Manifests that a removal covers are left out; a manifest that merely replaces others hides
nothing, as its writer may have crashed before it knew that its packs stay. Of the versions of a
group that a worker may load, those that another one replaces drop out, and of the rest the
smallest origin wins as a whole, never file by file.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from casinductor.errors import CatalogDamaged
from casinductor.store.format.names import CacheId
from casinductor.store.index.groups import Version
from casinductor.store.index.manifests import Lineage

if TYPE_CHECKING:
    from casinductor.store.index.catalog import Catalog

#: Says why demands are not met, or None when they are.
Judge = Callable[[dict[str, Any]], "str | None"]


class Union(msgspec.Struct):
    """The groups that live, by id, the refused versions by reason, and contents that were hidden
    from every worker.
    """

    groups: dict[str, Version] = msgspec.field(default_factory=dict)
    refused: dict[str, list[Version]] = msgspec.field(default_factory=dict)
    hidden: set[bytes] = msgspec.field(default_factory=set)


def versions(
    catalog: Catalog, cache: CacheId, *, even_removed: bool = False, even_hidden: bool = False
) -> list[Version]:
    """Every version of every group of a cache, from the manifests that no removal covers.

    The same version may stand in several manifests, at other places. ``even_removed`` has the
    others too, ``even_hidden`` what was hidden from workers: whoever moves or deletes asks for it.
    """
    with catalog.reading():
        everything = catalog.groups.versions(cache)
        gone = set() if even_removed else removed(catalog, cache)
        hidden = set() if even_hidden else hidden_contents(catalog, cache)
    if not gone and not hidden:
        return everything
    return [v for v in everything if v.published not in gone and v.content not in hidden]


def hidden_contents(catalog: Catalog, cache: CacheId) -> set[bytes]:
    """The contents of groups that were hidden from every worker, and not shown again."""
    hiding = catalog.manifests.hiding(cache)
    if not hiding:
        return set()
    gone = removed(catalog, cache)
    return set().union(*(contents for ulid, contents in hiding.items() if ulid not in gone))


def removed(catalog: Catalog, cache: CacheId) -> set[str]:
    """The manifests of a cache that removals cover."""
    return covered(catalog.manifests.lineage(cache))


def covered(lineage: Lineage) -> set[str]:
    """What removals cover: all that they name, and all that stands only for what is covered."""
    stands_for, removals = lineage
    found: set[str] = set().union(*(stands_for[ulid] for ulid in removals))
    while found:
        more = {
            ulid
            for ulid, names in stands_for.items()
            if ulid not in found and ulid not in removals and names and names <= found
        }
        if not more:
            break
        found |= more
    return found


def resolve(found: Iterable[Version], judge: Judge) -> Union:
    """Decide which version of each group lives, of those that ``judge`` lets this worker load."""
    result = Union()
    reasons: dict[str, str | None] = {}
    candidates: dict[str, list[Version]] = defaultdict(list)
    for version in found:
        if version.demands not in reasons:
            reasons[version.demands] = judge(demands_of(version.demands))
        reason = reasons[version.demands]
        if reason is not None:
            result.refused.setdefault(reason, []).append(version)
        else:
            candidates[version.id].append(version)
    result.groups = {group: winner(those) for group, those in candidates.items()}
    return result


def winner(those: list[Version]) -> Version:
    """Of one group's versions, the smallest origin among those nobody replaces."""
    if len(those) == 1:
        return those[0]
    replaced = {content for version in those for content in version.replaces}
    standing = [version for version in those if version.content not in replaced] or those
    return min(standing, key=lambda version: (version.origin, version.content, version.row))


def demands_of(text: str | None) -> dict[str, Any]:
    """A group's requirements from the catalog's text of them. Raises :class:`CatalogDamaged`."""
    try:
        demands = json.loads(text or "")
    except ValueError as error:
        raise CatalogDamaged("a requirement in the catalog is not JSON") from error
    return demands if isinstance(demands, dict) else {"?": demands}
