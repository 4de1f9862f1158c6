"""Writes what ``docs/`` has from the code: the JSON schemas, the man pages, the API page.

Run as ``python -m tools.published`` (``make published``); the tests fail where it was forgotten.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from casinductor import __version__
from casinductor.cli.main import cli
from tools.api_page import api_page
from tools.documents import DOCUMENTS, schema

DOCS = Path(__file__).resolve().parents[1] / "docs"


def schemas() -> dict[str, str]:
    """The schemas by file name."""
    return {
        f"{re.sub(r'[^a-z]+', '-', name.lower()).strip('-')}.json": json.dumps(
            schema(name), indent=1, ensure_ascii=False
        )
        + "\n"
        for name in DOCUMENTS
    }


def man_pages() -> dict[str, str]:
    """The man pages by file name."""
    from click_man.core import generate_man_page

    context = click.Context(cli, info_name="casinductor")
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        command.short_help = command.get_short_help_str(200)
        cli.commands[name] = command
    pages = {"casinductor.1": _dated(generate_man_page(context, version=__version__))}
    for name, command in cli.commands.items():
        own = click.Context(command, info_name=name, parent=context)
        page = generate_man_page(own, version=__version__)
        pages[f"casinductor-{name}.1"] = _dated(page)
    return pages


def _dated(page: str) -> str:
    """Without the day on which it was made."""
    return re.sub(r'(?m)^(\.TH "[^"]*" "1" )"[^"]*"', r'\1""', page.rstrip()) + "\n"


def main() -> None:
    for folder, files in (("schema", schemas()), ("man", man_pages())):
        target = DOCS / folder
        target.mkdir(exist_ok=True)
        for stale in {path.name for path in target.iterdir()} - files.keys():
            (target / stale).unlink()
        for name, text in files.items():
            (target / name).write_text(text, "utf-8")
    (DOCS / "api.md").write_text(api_page(), "utf-8")


if __name__ == "__main__":
    main()
