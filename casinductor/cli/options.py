"""Options that every command shares, before or after its name, and how results are printed.

Invariant: an option given after the command's name wins over one given before it, and both win
over the environment.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from casinductor.util.human import strip_control
from casinductor.util.voice import silence

if TYPE_CHECKING:
    from casinductor.cache import Cache
    from casinductor.settings import Settings

Function = Callable[..., Any]


@dataclass(frozen=True)
class Options:
    """The shared options as given; None and False mean not given."""

    store: str | None = None
    gpu: str | None = None
    as_json: bool = False
    quiet: bool = False

    def merged(self, other: Options) -> Options:
        """These options, with what ``other`` gives in their place."""
        return Options(
            other.store or self.store,
            other.gpu or self.gpu,
            other.as_json or self.as_json,
            other.quiet or self.quiet,
        )

    def settings(self, local_dir: Path | None = None, families: Sequence[str] = ()) -> Settings:
        """The environment's settings with these options applied.

        A directory that is named is the one family's that is named, else that of the family whose
        root it looks like, else torch's; then no other is meant.
        """
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
        workers that run ``python``, by default this interpreter.
        """
        from casinductor.cache import Cache
        from casinductor.inductor.interpreter import fingerprint_of

        worker = fingerprint_of(python) if python else None
        return Cache(key, settings=self.settings(local_dir, families), worker=worker)

    def emit(self, document: Any, lines: Iterable[str]) -> None:
        """Print JSON with ``--json``, nothing with ``--quiet``, else the lines."""
        if self.as_json:
            click.echo(json.dumps(document, indent=2))
        elif not self.quiet:
            for line in lines:
                click.echo(strip_control(line))

    def tell(self, event: str, sentence: str, fields: dict[str, Any]) -> None:
        """Say an event on standard error: a line, or with ``--json`` an object in one line."""
        if self.as_json:
            click.echo(json.dumps({"event": event, "text": sentence, **fields}), err=True)
        elif not self.quiet or event == "failed":
            click.echo(f"casinductor: {strip_control(sentence)}", err=True)

    def table(self, document: Any, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Print JSON, nothing, or a table; columns of figures are set to the right."""
        if self.as_json or self.quiet:
            self.emit(document, ())
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            figures = number and all(row[number][:1] in "0123456789?-" for row in rows)
            table.add_column(column, justify="right" if figures else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(strip_control, row))
        width = None if sys.stdout.isatty() else 160
        Console(width=width, markup=False, highlight=False).print(table)

    @contextmanager
    def bar(self, cache: Cache, what: str) -> Iterator[None]:
        """Show a progress bar on stderr while the block runs, on a terminal only."""
        if self.quiet or self.as_json or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"{what} {cache.id}", total=None)
            cache.progress = lambda done, total: progress.update(task, completed=done, total=total)
            yield

    def wait(self, seconds: float) -> None:
        """Sleep, and say so: on a network filesystem it takes minutes."""
        if not self.quiet:
            click.echo(f"waiting {seconds:g} s for other workers' listings", err=True)
        time.sleep(seconds)

    def warn(self, lines: Iterable[str]) -> None:
        """What went wrong without stopping the command, on stderr."""
        for line in lines:
            click.echo(f"casinductor: {strip_control(line)}", err=True)


def global_options(function: Function) -> Function:
    """Add the shared options as plain parameters."""
    for option in (
        click.option("--quiet", is_flag=True, help="Print errors only."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option("--gpu", metavar="TYPE", help="GPU type, e.g. H100 (default: this worker's)."),
        click.option("--store", metavar="DIR|URL", help="The store (default: $CASINDUCTOR_STORE)."),
    ):
        function = option(function)
    return function


python_option = click.option(
    "--python",
    metavar="PYTHON",
    help="The interpreter whose torch this is about (default: this one).",
)
family_option = click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME[=DIR]",
    help="Only this family of compile caches, and where it lies; again for several.",
)
empty_option = click.option(
    "--allow-empty", is_flag=True, help="Succeed although there is nothing to do."
)

grace_option = click.option(
    "--grace",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to wait at each step for other clients' listings (default: 0 on a local "
    "filesystem, else 600).",
)


def command_options(function: Function) -> Function:
    """Add the shared options and hand them to the command as its first argument."""

    @global_options
    @click.pass_context
    @wraps(function)
    def wrapper(ctx: click.Context, /, **given: Any) -> Any:
        names = ("store", "gpu", "as_json", "quiet")
        own = Options(**{name: given.pop(name) for name in names})
        options = _outer(ctx).merged(own)
        if options.quiet:
            silence()
        return function(options, **given)

    return wrapper


def _outer(ctx: click.Context) -> Options:
    found = ctx.find_object(Options)
    return found if found is not None else Options()
