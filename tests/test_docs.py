"""The documentation says what the code does, where that can be checked."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import msgspec
import pytest

from casinductor.cli.main import _COMMANDS, cli
from casinductor.inspect import causes
from casinductor.reports.warmup import WarmupReport, to_record
from casinductor.store.format import frame, manifest, names, pack, paths
from casinductor.store.write import journal
from tests.conftest import Fleet, Tree

ROOT = Path(__file__).resolve().parents[1]
DOCS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
FORMAT = (ROOT / "docs/format.md").read_text()


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    for name in re.findall(r"`((?:casinductor|tests|tools|docs)/[\w/.]+)`", path.read_text()):
        assert (ROOT / name).exists(), name


def commands_of(path: Path) -> list[list[str]]:
    """Every casinductor command that a page shows in a shell block."""
    found = []
    for block in re.findall(r"```(?:sh|console|bash)\n(.*?)```", path.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            match = re.match(r"\s*(?:[A-Z_]+=\S+ +)*casinductor (.*)", line)
            if match:
                found.append(shlex.split(match[1], comments=True))
    return found


@pytest.mark.parametrize(
    "path", [path for path in DOCS if commands_of(path)], ids=lambda path: path.name
)
def test_commands_that_are_shown_can_be_given(path: Path) -> None:
    for words in commands_of(path):
        words = words[: next((i for i, w in enumerate(words) if w in ("&&", "|", ">")), None)]
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None, words
        command.make_context(words[0], words[1:])


@pytest.mark.parametrize("name", _COMMANDS)
def test_examples_in_help_can_be_given(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    examples = re.findall(r"^\s+casinductor (.*)$", command.help or "", re.MULTILINE)
    for example in examples:
        words = shlex.split(example.partition(" && ")[0])
        shown = cli.get_command(click.Context(cli), words[0])
        assert shown is not None, example
        shown.make_context(words[0], words[1:])


def test_the_format_page_has_every_constant() -> None:
    for magic in (b"CASIPACK", pack.FOOTER_MAGIC, manifest.MAGIC, pack.TRAILER_MAGIC.strip()):
        assert magic.decode() in FORMAT
    assert frame.MAX_FRAME_BYTES == 1 << 26
    assert "2^26" in FORMAT
    assert pack.MAX_BLOB_BYTES == 1 << 22
    assert "2^22" in FORMAT
    assert frame.ZSTD_WINDOW_LOG == 25
    assert "2^25" in FORMAT
    assert (names._MAX_PART, names._MAX_KEY) == (200, 900)
    assert (paths._MAX_PART, paths._MAX_PATH) == (255, 1024)
    marks = (names.CONDEMNED, names.QUARANTINE, names.USES, names.WARMUPS)
    for folder in (names.MANIFESTS, names.PACKS, *marks):
        assert f"`{folder}/" in FORMAT


@pytest.mark.parametrize(
    "struct", [manifest.Manifest, manifest.Group, manifest.Artifact, pack.Footer]
)
def test_the_format_page_has_every_field(struct: type[msgspec.Struct]) -> None:
    for field in struct.__struct_fields__:
        assert f"`{field}`" in FORMAT, field


def test_the_format_page_has_every_field_of_a_warmup() -> None:
    section = FORMAT.partition("## Warm-ups")[2]
    for name in to_record(WarmupReport("H100/k")):
        assert f"`{name}`" in section, name
    assert journal.MAGIC.decode() in FORMAT
    assert (journal.KEPT, journal.KEPT_DAYS, journal.MAX_BYTES) == (200, 90, 1 << 23)


def test_the_explain_page_has_every_cause() -> None:
    text = (ROOT / "docs/explain.md").read_text()
    for kind in causes.ADVICE:
        assert f"`{kind}`" in text or kind in ("empty", "follows", "other"), kind


def test_the_architecture_page_names_every_module() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for path in (ROOT / "casinductor").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py") and path.parent.name != "cli":
            assert path.name in text, path


def test_a_second_implementation_can_read_a_store(fleet: Fleet) -> None:
    """Reads an artifact with nothing but the format page: struct, MessagePack, LZ4 and blake3."""
    import struct

    import lz4.block
    from blake3 import blake3

    made = Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    data = fleet.files("*.manifest")[0].read_bytes()
    magic, version, codec, zero, raw, stored = struct.unpack("<8sHHIQQ", data[:32])
    assert (magic, version, codec, zero, stored) == (b"CASIMANI", 1, 1, 0, len(data) - 64)
    assert blake3(data[:32] + data[64:]).digest() == data[32:64]
    fields = msgspec.msgpack.decode(lz4.block.decompress(data[64:], uncompressed_size=raw))
    artifacts = [a for g in fields["groups"] for a in g[7]]
    (library,) = [a for a in artifacts if a[0].endswith(".so")]
    path, mode, size, _, needed, blobs = library
    content = b""
    for blob in blobs:
        where, offset, start, length, how = fields["frames"][fields["blobs"]["frame"][blob]]
        name, _ = fields["packs"][where]
        body = (fleet.store / "packs" / name[-2:].lower() / f"{name}.pack").read_bytes()
        opened = lz4.block.decompress(body[offset : offset + start], uncompressed_size=length)
        assert how == 1
        at = fields["blobs"]["offset"][blob]
        part = opened[at : at + fields["blobs"]["size"][blob]]
        assert blake3(part).digest() == fields["blobs"]["hashes"][32 * blob : 32 * blob + 32]
        content += part
    assert content == made.content()[path]
    assert (len(content), mode, needed) == (size, 0o755, True)
