"""The documentation says what the code does, where that can be checked."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

import casinductor
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


def test_python_examples_use_what_there_is() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "casinductor":
                for name in node.names:
                    assert hasattr(casinductor, name.name)


def test_the_typed_example_runs(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASINDUCTOR_STORE", str(fleet.store))
    monkeypatch.setenv("CASINDUCTOR_LOCAL_DIR", str(fleet.folder / "local/w"))
    monkeypatch.setenv("CASINDUCTOR_STATE_DIR", str(fleet.folder / "state"))
    Tree(fleet.folder / "local/w").model("ab")
    text = (ROOT / "README.md").read_text()
    block = next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Cache(" in b)
    exec(compile(block, "README.md", "exec"), {})


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
