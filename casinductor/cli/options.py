"""Options that every command shares, before or after its name, and how results are printed.

Invariant: an option given after the command's name wins over one given before it, and both win
over the environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from dataclasses import replace as with_options
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from casinductor.util.human import strip_control, wrapped
from casinductor.util.watching import Watch, nobody

if TYPE_CHECKING:
    from casinductor.cache import Cache
    from casinductor.cli.table import Column
    from casinductor.settings import Settings
    from casinductor.store.store import Store

#: What shows a bar now, if anything does.
_watching: list[Watch] = []
_NO_GPU = (None, "CPU")
Function = Callable[..., Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """The shared options as given; None and False mean not given."""

    store: str | None = None
    gpu: str | None = None
    as_json: bool = False
    quiet: bool = False
    wide: bool = False
    verbose: bool = False

    def merged(self, other: Options) -> Options:
        """These options, with what ``other`` gives in their place."""
        return Options(
            other.store or self.store,
            other.gpu or self.gpu,
            other.as_json or self.as_json,
            other.quiet or self.quiet,
            other.wide or self.wide,
            other.verbose or self.verbose,
        )

    def settings(self, local_dir: Path | None = None, families: Sequence[str] = ()) -> Settings:
        """The environment's settings with these options applied.

        A directory that is named is the one family's that is named, else that of the family whose
        root it looks like, else torch's; then no other is meant.
        """
        from msgspec.structs import replace

        from casinductor.families.table import INDUCTOR
        from casinductor.settings import Settings

        settings = Settings.from_environment()
        if self.store:
            settings = replace(settings, store=self.store)
        if self.gpu:
            settings = replace(settings, gpu_type=self.gpu)
        chosen = tuple(families)
        if local_dir is not None:
            chosen = self._families_in(local_dir, chosen)
            if chosen == (INDUCTOR,):
                return replace(settings, local_dir=local_dir, families=chosen)
        return replace(settings, families=chosen) if chosen else settings

    def _families_in(self, folder: Path, named: tuple[str, ...]) -> tuple[str, ...]:
        """The family that lies in a directory, as a word for settings."""
        from casinductor.errors import InvalidName
        from casinductor.families.choice import recognize
        from casinductor.families.table import INDUCTOR

        if len(named) > 1 or (named and "=" in named[0]):
            raise InvalidName(f"say of each family where it lies (--family NAME=DIR), not {folder}")
        if named:
            family = named[0]
        else:
            family = recognize(str(folder)) or INDUCTOR
            if family != INDUCTOR:
                self.warn([f"{folder} looks like family {family}'s, and is taken for it"])
        return (family,) if family == INDUCTOR else (f"{family}={folder}",)

    def cache(
        self,
        key: str,
        local_dir: Path | None = None,
        python: str | None = None,
        families: Sequence[str] = (),
    ) -> Cache:
        """The cache of this key on the GPU type of the options, the environment or this worker, for
        workers that run ``python``, by default this interpreter. ``key`` may begin with that type,
        as listings have it.
        """
        from msgspec.structs import replace

        from casinductor.cache import Cache
        from casinductor.inductor.gpu import get_gpu_type
        from casinductor.inductor.interpreter import fingerprint_of
        from casinductor.store.lookup import own_key

        settings = self.settings(local_dir, families)
        worker = fingerprint_of(python) if python else None
        if worker is not None and worker.device == "none" and settings.gpu_type not in _NO_GPU:
            worker = replace(worker, device="unsure")  # a container that shows none, beside one
        gpu = settings.gpu_type or get_gpu_type()
        return Cache(own_key(key, gpu), gpu=gpu, settings=settings, worker=worker)

    def gpu_type(self) -> str:
        """The GPU type of the options, the environment or this worker."""
        from casinductor.inductor.gpu import get_gpu_type

        return self.settings().gpu_type or get_gpu_type()

    def found(
        self, name: str, local_dir: Path | None = None, *, must: bool = True, **more: Any
    ) -> Cache:
        """The cache that the store holds under this name: a key, or ``GPU/KEY`` as in listings.

        Raises :class:`CacheNotFound` with what is there instead, unless it need not be there
        (``must``); ``more`` as for :meth:`cache`.
        """
        from casinductor.errors import CasinductorError
        from casinductor.store.backends.address import open_backend
        from casinductor.store.lookup import find_cache

        gpu = self.gpu_type()
        backend = open_backend(self.settings().store)
        try:
            cache = find_cache(backend, name, gpu) if backend.there else None
        except CasinductorError:
            if must:
                raise
            cache = None
        if cache is None:
            return self.cache(name, local_dir, **more)
        return with_options(self, gpu=cache.gpu).cache(cache.key, local_dir, **more)

    def emit(self, document: Any, lines: Iterable[str]) -> None:
        """Print JSON with ``--json``, nothing with ``--quiet``, else the lines."""
        if self.as_json:
            click.echo(json.dumps(document, indent=2))
        elif not self.quiet:
            room = None if self.wide else room_of(sys.stdout)
            for line in lines:
                click.echo(wrapped(strip_control(line), room))

    def tell(self, event: str, sentence: str, fields: dict[str, Any]) -> None:
        """Say an event on standard error: a line, or with ``--json`` an object in one line."""
        if self.as_json:
            click.echo(json.dumps({"event": event, "text": sentence, **fields}), err=True)
        elif not self.quiet or event == "failed":
            complain(sentence)

    def table(
        self, document: Any, title: str, columns: Sequence[Column], rows: Sequence[Any]
    ) -> None:
        """Print JSON, nothing, or a table of rows that have a field for each column."""
        if self.as_json or self.quiet:
            self.emit(document, ())
            return
        from casinductor.cli.table import print_table

        print_table(title, columns, rows, self.wide)

    def on_store(self, settings: Settings, work: Callable[[Store], T], *, fresh: bool = False) -> T:
        """Do work on a store that shows how far it is; ``fresh``: on what was just read from it.

        Raises what :func:`~casinductor.store.opening.with_store` does.
        """
        from casinductor.store.opening import with_fresh_store, with_store

        run = with_fresh_store if fresh else with_store
        with self.watching() as watch:
            return run(settings, lambda store: work(store.watched_by(watch)))

    @contextmanager
    def bar(self, cache: Cache, what: str) -> Iterator[None]:
        """Show how far a restore or sync is while the block runs, on a terminal only."""
        with self.watching() as watch:
            cache.progress = lambda done, total: watch(f"{what} {cache.id}", done, total, "B")
            yield

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """A watcher that shows a bar on stderr while the block runs, on a terminal only."""
        if self.quiet or self.as_json or not sys.stderr.isatty():
            yield nobody
            return
        from casinductor.cli.bar import Bar

        if _watching:  # work on a store within work on another: one terminal has one bar
            yield _watching[0]
            return
        with Bar() as bar:
            _watching.append(bar.watch)
            try:
                yield bar.watch
            finally:
                _watching.clear()

    def wait(self, seconds: float) -> None:
        """Sleep, and say so: on a network filesystem it takes minutes."""
        if not self.quiet:
            click.echo(f"waiting {seconds:g} s for other workers' listings", err=True)
        time.sleep(seconds)

    def warn(self, lines: Iterable[str]) -> None:
        """What went wrong without stopping the command, on stderr."""
        for line in lines:
            complain(line)


def write_file(target: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises :class:`LocalDirectory`."""
    from casinductor.errors import LocalDirectory

    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise LocalDirectory(f"cannot write {target}: {error.strerror or error}") from error


def room_of(stream: TextIO) -> int | None:
    """The width of the terminal that a stream is; None for anything else."""
    return get_terminal_size().columns if stream.isatty() else None


def complain(sentence: str) -> None:
    """Say a line on standard error, with the command's name."""
    text = f"casinductor: {strip_control(sentence)}"
    click.echo(wrapped(text, room_of(sys.stderr)), err=True)
