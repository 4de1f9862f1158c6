"""One graph or kernel of the store: its code in the form that is asked for.

Invariant: what is shown are the stored bytes, verified; nothing is run to make them.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

from casinductor.errors import CacheNotFound, Damaged, InvalidName
from casinductor.families.place import ENTRY_KINDS, Kind, entry_key
from casinductor.inductor.components import unpack
from casinductor.inductor.description import Description, describe
from casinductor.inspect.facts import MAX_ENTRY, Facts
from casinductor.inspect.graphs import Graph, of_view
from casinductor.inspect.kernelcode import KERNEL_FORMS, python_of, stored_forms
from casinductor.inspect.tables import KERNEL_KINDS, kernel_rows
from casinductor.inspect.view import Item, View, look_at
from casinductor.store.format.names import CacheId
from casinductor.store.index.groups import File, Version
from casinductor.store.read.files import read_files
from casinductor.store.store import Store

#: The forms of graphs and kernels, and what colours each.
FORMS = {
    **KERNEL_FORMS,
    "source": "python",
    "python": "python",
    "code": "python",
    "key": "text",
    "guards": "python",
}
_SHORTEST = 4


@dataclass
class Shown:
    """A text, what it is and how it is coloured; machine code has ``data`` instead. ``forms``: all
    that there are.
    """

    title: str
    form: str
    text: str
    lexer: str
    data: bytes | None = None
    forms: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``data`` in base64, null for text."""
        data = None if self.data is None else b64encode(self.data).decode("ascii")
        fields = {"title": self.title, "form": self.form, "text": self.text}
        return {**fields, "data": data, "forms": self.forms}


def views(store: Store, facts: Facts, *kinds: str) -> list[View]:
    """Every cache of the store."""
    store.refresh().log()
    caches = store.catalog.manifests.caches()
    return [look_at(store, facts, cache, *kinds, runs=0, fresh=False) for cache in caches]


def entries_named(store: Store, facts: Facts, beginning: str) -> list[Graph]:
    """Entries of the whole store by the beginning of their key or of their content's hash."""
    if len(beginning) < _SHORTEST:
        return []
    found: dict[tuple[str, str | None], Graph] = {}
    for view in views(store, facts, *ENTRY_KINDS):
        named = [
            item
            for item in view.of(*ENTRY_KINDS)
            if str(item.fact.get("key", "")).startswith(beginning)
            or item.version.content.hex().startswith(beginning.lower())
        ]
        for graph in of_view(View(view.cache, named), facts):
            found.setdefault((graph.key, graph.guards), graph)
    return list(found.values())


def show(
    store: Store, facts: Facts, name: str, form: str | None, cache: CacheId | None = None
) -> Shown:
    """A graph or kernel by the beginning of its hash, or by its name, in one form.

    Without a ``form``, what says most: a graph's code, a kernel's source. Raises
    :class:`CacheNotFound` for an unknown name, :class:`InvalidName` for an ambiguous one or a form
    it does not have, :class:`Damaged` for bytes that cannot be had.
    """
    if len(name) < _SHORTEST:
        raise InvalidName(f"{name!r} is too short; give at least {_SHORTEST} characters")
    if cache is not None:
        looked = [look_at(store, facts, cache, *KERNEL_KINDS, runs=0)]
    else:
        looked = views(store, facts, *KERNEL_KINDS)
    found: dict[str, tuple[Item, View]] = {}
    for view in looked:
        for item in _matching(view, facts, name):
            found[item.version.content.hex()] = item, view
    ids = {item.version.id for item, _ in found.values()}
    if not found:
        raise CacheNotFound(f"{store.backend.url} holds no graph or kernel {name!r}")
    if len(ids) > 1:
        some = ", ".join(sorted(i.partition("#")[0] for i in ids)[:4])
        raise InvalidName(f"{name!r} means {len(ids)} graphs or kernels: {some} ...")
    item, view = next(iter(found.values()))
    if item.version.kind in ENTRY_KINDS:
        return _entry(store, facts, item, form)
    return _kernel(store, facts, view.cache, item, form)


def _matching(view: View, facts: Facts, name: str) -> list[Item]:
    upper, lower = name.upper(), name.lower()
    rows = [row for row in kernel_rows(view, facts) if row.name == name and not row.opaque]
    titles = {row.hash for row in rows if row.chosen} or {row.hash for row in rows}
    found = []
    for item in view.items:
        version = item.version
        if version.kind == Kind.TUNING.value:
            continue
        stem = version.id.rpartition("/")[2].removesuffix(".main")
        by_key = str(item.fact.get("key", "")).startswith(lower)
        by_hash = stem.startswith(upper if version.kind == Kind.TRITON.value else lower)
        if by_key or by_hash or version.content.hex().startswith(lower) or stem in titles:
            found.append(item)
    return found


def _content(store: Store, version: Version) -> list[tuple[File, bytes]]:
    """All files of a group. Raises :class:`Damaged`."""
    found = []
    members = store.catalog.groups.files([version])[version.row]
    if sum(file.size for file in members) > MAX_ENTRY:
        raise Damaged(f"{version.id} announces more than {MAX_ENTRY >> 20} MiB; it is not read")
    for file, data in read_files(store, members):
        if data is None:
            raise Damaged(f"{file.path} of {version.id} is missing or damaged in the store")
        found.append((file, data))
    return sorted(found, key=lambda item: item[0].path)


def _entry(store: Store, facts: Facts, item: Item, form: str | None) -> Shown:
    version = item.version
    title = f"{version.kind} {item.fact.get('key') or version.id}"
    parts = unpack(facts.parts(version.content))
    guards = item.fact.get("guards")
    stored = {"guards": "(opaque)" if guards is None else guards or "True  # no guards"}
    if parts:
        stored["key"] = "\n".join(f"{c.name}: {c.value}" for c in parts)
    (file, data), *_ = _content(store, version)
    told = describe(version.kind, entry_key(file.path), data)
    if form not in stored and told.entry.guards is None and told.source is None and not parts:
        raise InvalidName(f"{title} is opaque: {told.entry.reason}")
    stored.update({"source": _graph_code(told), "code": told.source or _graph_code(told)})
    have = sorted(name for name, text in stored.items() if text)
    wanted = form or "code"
    if wanted not in have:
        raise InvalidName(f"{title} has no {wanted}; it has {', '.join(have)}")
    return Shown(title, wanted, stored[wanted], FORMS[wanted], forms=have)


def _graph_code(told: Description) -> str:
    """The graph as it stands among the components of its key."""
    return "\n\n".join(c.value for c in told.components if c.name == "gm")


def _kernel(store: Store, facts: Facts, cache: CacheId, item: Item, form: str | None) -> Shown:
    version = item.version
    title = f"{version.kind} {item.fact.get('name') or ''} {version.id}".replace("  ", " ")
    stored = stored_forms(version.kind, _content(store, version))
    if version.kind == Kind.TRITON.value and (python := python_of(store, facts, cache, item)):
        stored["python"] = python.encode(), "python"
    wanted = form or ("ttir" if "ttir" in stored else "source")
    wanted = "source" if wanted == "code" else wanted
    if wanted not in stored:
        raise InvalidName(f"{title} has no {wanted}; it has {', '.join(sorted(stored))}")
    data, lexer = stored[wanted]
    if lexer == "binary":
        return Shown(title, wanted, "", lexer, data, sorted(stored))
    return Shown(title, wanted, data.decode("utf-8", "replace"), lexer, forms=sorted(stored))
