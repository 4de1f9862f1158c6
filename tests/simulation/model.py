"""A model of publishing and collecting, small enough to explore every state of it.

Each worker publishes a group of its own, or all the same one, that needs one blob; pack 0 holds
that blob already, named by an old manifest that a collector is free to drop, so workers may lend
it. A worker that finds its group published relies on that. Collectors may pick any pack. A listing
shows the store as it was at any moment since the floor; completing a wait lifts the floor to the
moment the wait began, which is what waiting for the staleness of listings buys.

Safe means: a group that was acknowledged has a manifest, not hidden, whose pack is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

OLD = "old"  # the group of the manifest that may be dropped
SHARED = "shared"  # the group of all workers that compile the same


class Shot(NamedTuple):
    """What a listing of the whole store would show at one moment."""

    packs: frozenset[int]
    manifests: frozenset[tuple[str, int, str]]  # group, pack, what it replaces
    tombs: frozenset[int]


class Actor(NamedTuple):
    """A worker or a collector: where it is in its program and what it remembers."""

    at: str
    pack: int = -1
    seen: frozenset[int] = frozenset()
    needed: frozenset[tuple[str, int, str]] = frozenset()
    made: int = -1
    mark: int = 0  # meaningful while it waits
    tries: int = 0


class State(NamedTuple):
    log: tuple[Shot, ...]
    start: int  # the moment of log[0]
    workers: tuple[Actor, ...]
    collectors: tuple[Actor, ...]
    acked: frozenset[str]
    fresh: int  # the next unused pack name
    touched: frozenset[int] = frozenset()

    @property
    def now(self) -> Shot:
        return self.log[-1]


@dataclass(frozen=True)
class Rules:
    """The protocol, or one of the variants that look safe and are not."""

    workers: int = 2
    collectors: int = 1
    stale: bool = False
    waits: int = 2
    tries: int = 2
    crashes: bool = True
    same: bool = False  # all workers publish the same group
    trusting: bool = False  # what another worker published needs no handshake
    packs_first: bool = False  # look at packs before tombstones
    lift: bool = False  # a collector that finds its pack in use takes the tombstone back
    mtime: bool = False  # no tombstones: old packs that nobody names may go
    touch: bool = False  # ... and a worker touches what it lends
    by_content: bool = False  # the same blob makes a pack of the same name
    hide: bool = False  # a manifest hides at once what it replaces


Step = tuple[str, str, State]  # who, what, and what comes of it


def begin(rules: Rules) -> State:
    shot = Shot(frozenset({0}), frozenset({(OLD, 0, "")}), frozenset())
    return State(
        (shot,),
        0,
        tuple(Actor("read") for _ in range(rules.workers)),
        tuple(Actor("choose") for _ in range(rules.collectors)),
        frozenset(),
        1,
    )


def change(state: State, rules: Rules, shot: Shot) -> State:
    if shot == state.now:
        return state
    if rules.stale:
        return state._replace(log=(*state.log, shot))
    return state._replace(log=(shot,), start=state.start + len(state.log))


def safe(state: State, rules: Rules) -> bool:
    now = state.now
    hidden = {m[2] for m in now.manifests if m[2]} if rules.hide else set()
    there = {
        group
        for group, pack, _ in now.manifests
        if pack in now.packs and f"{group}@{pack}" not in hidden
    }
    return state.acked <= there


def steps(state: State, rules: Rules) -> Iterator[Step]:
    for number, worker in enumerate(state.workers):
        name = f"worker {number}"

        def put(actor: Actor, then: State, number: int = number) -> State:
            workers = (*then.workers[:number], actor, *then.workers[number + 1 :])
            return then._replace(workers=workers)

        yield from _worker(state, rules, worker, name, put)
    for number, collector in enumerate(state.collectors):
        name = f"collector {number}"

        def set_(actor: Actor, then: State, number: int = number) -> State:
            collectors = (*then.collectors[:number], actor, *then.collectors[number + 1 :])
            return then._replace(collectors=collectors)

        yield from _collector(state, rules, collector, name, set_)


Put = Callable[[Actor, State], State]


def _worker(state: State, rules: Rules, me: Actor, name: str, put: Put) -> Iterator[Step]:
    now, group = state.now, SHARED if rules.same else name
    if me.at == "read":
        choices, relied = set(), set()
        for shot in state.log:
            lent = {pack for _, pack, _ in shot.manifests} - shot.tombs - me.seen
            there = {pack for g, pack, _ in shot.manifests if g == group} & lent
            relied |= there
            choices |= set() if there else lent & shot.packs or {-1}
        for pack in sorted(relied):
            if rules.trusting:
                then = state._replace(acked=state.acked | {group})
                yield name, "rely", put(me._replace(at="done"), then)
            else:
                yield name, "rely", put(me._replace(at="list tombstones", pack=pack), state)
        for pack in sorted(choices):
            at = "publish" if pack >= 0 and not rules.touch else "write pack"
            yield name, "read", put(me._replace(at=at, pack=pack), state)
    elif me.at == "write pack":
        if rules.touch and me.pack >= 0:
            then = state._replace(touched=state.touched | {me.pack})
            yield name, "touch", put(me._replace(at="publish"), then)
        else:
            pack = 0 if rules.by_content else state.fresh
            then = change(state, rules, now._replace(packs=now.packs | {pack}))
            then = then._replace(fresh=state.fresh + 1)
            yield name, "write pack", put(me._replace(at="publish", pack=pack), then)
    elif me.at == "publish":
        manifests = now.manifests | {(group, me.pack, "")}
        then = change(state, rules, now._replace(manifests=manifests))
        if rules.mtime:
            then = then._replace(acked=then.acked | {group})
            yield name, "publish", put(me._replace(at="done"), then)
        else:
            at = "check packs" if rules.packs_first else "list tombstones"
            yield name, "publish", put(me._replace(at=at), then)
    elif me.at in ("list tombstones", "check packs"):
        first = (me.at == "check packs") == rules.packs_first
        for good in sorted({_good(me, shot) for shot in state.log}):
            if not good:
                bad = me._replace(at="read", seen=me.seen | {me.pack}, tries=me.tries + 1)
                if me.tries + 1 >= rules.tries:
                    bad = me._replace(at="done")  # gives up, acknowledges nothing
                yield name, me.at, put(bad, state)
            elif first:
                at = "list tombstones" if rules.packs_first else "check packs"
                yield name, me.at, put(me._replace(at=at), state)
            else:
                then = state._replace(acked=state.acked | {group})
                yield name, me.at, put(me._replace(at="done"), then)


def _good(me: Actor, shot: Shot) -> bool:
    return me.pack not in shot.tombs if me.at == "list tombstones" else me.pack in shot.packs


def _collector(state: State, rules: Rules, me: Actor, name: str, put: Put) -> Iterator[Step]:
    now = state.now
    if rules.crashes and me.at not in ("choose", "done"):
        yield name, "die", put(Actor("done"), state)
    if rules.mtime:
        yield from _by_age(state, rules, me, name, put)
    elif me.at == "choose":
        for pack in sorted(now.packs):
            yield name, f"choose {pack}", put(me._replace(at="tombstone", pack=pack), state)
    elif me.at == "tombstone":
        then = change(state, rules, now._replace(tombs=now.tombs | {me.pack}))
        at = "wait" if rules.stale else "list"  # nothing to wait for where listings are fresh
        yield (
            name,
            "tombstone",
            put(me._replace(at=at, mark=_moment(then) if rules.stale else 0, tries=0), then),
        )
    elif me.at == "wait":
        then = _lift_floor(state, me.mark)
        waited = me.tries + 1
        at = "list" if waited >= rules.waits else "wait"
        yield name, "wait", put(me._replace(at=at, mark=_moment(state), tries=waited), then)
    elif me.at == "list":
        for shot in dict.fromkeys(state.log):
            needed = frozenset(m for m in shot.manifests if m[1] == me.pack and m[0] != OLD)
            if needed and rules.lift:
                yield name, "list", put(me._replace(at="lift"), state)
            else:
                at = "copy" if needed else "delete"
                yield name, "list", put(me._replace(at=at, needed=needed, tries=0), state)
    elif me.at == "copy":
        if me.pack in now.packs:  # else another collector was faster
            then = change(state, rules, now._replace(packs=now.packs | {state.fresh}))
            then = then._replace(fresh=state.fresh + 1)
            yield name, "copy", put(me._replace(at="publish", made=state.fresh), then)
        else:
            yield name, "copy", put(Actor("done"), state)
    elif me.at == "publish":
        new = {(group, me.made, f"{group}@{pack}") for group, pack, _ in me.needed}
        then = change(state, rules, now._replace(manifests=now.manifests | new))
        yield name, "publish", put(me._replace(at="handshake"), then)
    elif me.at == "handshake":
        for good in sorted({me.made in s.packs and me.made not in s.tombs for s in state.log}):
            if good:
                yield name, "handshake", put(me._replace(at="delete"), state)
            elif me.tries + 1 < rules.tries:
                yield name, "handshake", put(me._replace(at="copy", tries=me.tries + 1), state)
            else:
                yield name, "handshake", put(Actor("done"), state)
    elif me.at == "delete":
        gone = {m for m in now.manifests if m in me.needed or m == (OLD, me.pack, "")}
        shot = now._replace(manifests=now.manifests - gone, packs=now.packs - {me.pack})
        then = change(state, rules, shot)
        at = "wait again" if rules.stale else "lift"
        gone_by = me._replace(
            at=at, mark=_moment(then) if rules.stale else 0, tries=0, needed=frozenset()
        )
        yield name, "delete", put(gone_by, then)
    elif me.at == "wait again":
        then = _lift_floor(state, me.mark)
        waited = me.tries + 1
        at = "lift" if waited >= rules.waits else "wait again"
        yield name, "wait", put(me._replace(at=at, mark=_moment(state), tries=waited), then)
    elif me.at == "lift":
        then = change(state, rules, now._replace(tombs=now.tombs - {me.pack}))
        yield name, "lift", put(Actor("done"), then)


def _by_age(state: State, rules: Rules, me: Actor, name: str, put: Put) -> Iterator[Step]:
    """Without tombstones: what nobody names, and is old, goes."""
    now = state.now
    if me.at == "choose":
        named = {pack for group, pack, _ in now.manifests if group != OLD}
        for pack in sorted(now.packs - named - state.touched):
            if pack == 0:  # the others are young
                yield name, f"choose {pack}", put(me._replace(at="delete", pack=pack), state)
    elif me.at == "delete":
        old = {(OLD, me.pack, "")}
        shot = now._replace(packs=now.packs - {me.pack}, manifests=now.manifests - old)
        yield name, "delete", put(Actor("done"), change(state, rules, shot))


def _moment(state: State) -> int:
    return state.start + len(state.log) - 1


def _lift_floor(state: State, mark: int) -> State:
    if mark <= state.start:
        return state
    return state._replace(log=state.log[mark - state.start :], start=mark)


@dataclass
class Explored:
    """How many states there are, and the shortest way to a loss, as (who, what)."""

    states: int
    trace: list[tuple[str, str]] | None


def explore(rules: Rules, limit: int = 5_000_000) -> Explored:
    """Breadth first over every state."""
    first = begin(rules)
    came_from: dict[State, tuple[State, str, str] | None] = {first: None}
    todo = deque([first])
    while todo:
        state = todo.popleft()
        if not safe(state, rules):
            return Explored(len(came_from), _trace(came_from, state))
        for who, what, then in steps(state, rules):
            then = _forget_moments(then)
            if then not in came_from:
                came_from[then] = (state, who, what)
                todo.append(then)
        if len(came_from) > limit:
            raise AssertionError(f"more than {limit} states")
    return Explored(len(came_from), None)


def _forget_moments(state: State) -> State:
    """States that differ only in when they began are the same."""
    if state.start == 0:
        return state
    shift = state.start
    collectors = tuple(c._replace(mark=max(0, c.mark - shift)) for c in state.collectors)
    return state._replace(start=0, collectors=collectors)


def _trace(
    came_from: dict[State, tuple[State, str, str] | None], state: State
) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    step = came_from[state]
    while step is not None:
        state, who, what = step
        found.append((who, what))
        step = came_from[state]
    return found[::-1]


SAFE = {
    "two workers, one collector": Rules(workers=2, collectors=1),
    "one worker, two collectors": Rules(workers=1, collectors=2),
    "two workers of one group": Rules(workers=2, collectors=1, same=True),
    "two workers of one group, stale listings": Rules(
        workers=2, collectors=1, same=True, stale=True, tries=1
    ),
    "one worker, stale listings": Rules(workers=1, collectors=1, stale=True),
    "two workers, stale listings": Rules(workers=2, collectors=1, stale=True, tries=1),
    "two collectors, stale listings": Rules(
        workers=1, collectors=2, stale=True, tries=1, crashes=False
    ),
}
LARGE = {
    "two workers, two collectors": Rules(workers=2, collectors=2, crashes=False),
    "stale listings, three tries": Rules(workers=1, collectors=1, stale=True, tries=3),
}
_BASE = Rules(workers=1, collectors=1, crashes=False)
UNSAFE = {
    "mtime grace": replace(_BASE, mtime=True),
    "touching on reuse": replace(_BASE, mtime=True, touch=True),
    "packs before tombstones": replace(_BASE, packs_first=True),
    "lifting a tombstone": replace(_BASE, collectors=2, lift=True),
    "trusting other workers": replace(_BASE, workers=2, same=True, trusting=True),
    "packs named by content": replace(_BASE, by_content=True, collectors=2),
    "a grace of one staleness": replace(_BASE, stale=True, waits=1),
    "hiding what is replaced": replace(_BASE, collectors=2, hide=True, crashes=True),
}
