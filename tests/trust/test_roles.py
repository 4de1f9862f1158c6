"""Roles on a real object store, by the policy that ``docs/trust.md`` gives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from casinductor.errors import StoreReadOnly
from tests import servers
from tests.conftest import ObjectFleet, Tree, content
from tests.servers import BUCKET, Server

DOCS = Path(__file__).resolve().parents[2] / "docs"
READER = {"accessKey": "reader", "secretKey": "readerreader"}


def policy(prefix: str) -> str:
    """The documented policy, for a store below ``prefix``."""
    (text,) = re.findall(
        r"```json\n(\{\n  \"Version\".*?)```", (DOCS / "trust.md").read_text(), re.DOTALL
    )
    return json.dumps(json.loads(text.replace("BUCKET", BUCKET).replace("PREFIX", prefix)))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name, value in servers.KEYS.items():
        monkeypatch.setenv(name, value)
    admin = {
        "accessKey": servers.KEYS["AWS_ACCESS_KEY_ID"],
        "secretKey": servers.KEYS["AWS_SECRET_ACCESS_KEY"],
    }
    identities = {
        "identities": [
            {
                "name": "publisher",
                "credentials": [admin],
                "actions": ["Admin", "Read", "List", "Tagging", "Write"],
            },
            {"name": "reader", "credentials": [READER], "policyNames": ["reader"]},
        ],
        "policies": [{"name": "reader", "content": policy(f"t/{tmp_path.name}")}],
    }
    with servers.seaweedfs(tmp_path / "weed", identities) as running:
        yield running


@pytest.mark.servers
def test_a_reader_restores_and_cannot_write(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = ObjectFleet(tmp_path, server)
    tree = Tree(tmp_path / "local" / "publisher").model("ab")
    fleet.cache("publisher").sync()

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER["accessKey"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER["secretKey"])
    reader = fleet.cache("reader")
    report = reader.restore("all")
    found = content(tmp_path / "local" / "reader")
    assert {path for path in found if "__grp__" not in path} == {
        path for path in tree.content() if "__grp__" not in path
    }
    assert not any("uses/" in note for note in report.notes)  # its mark of use was left
    Tree(tmp_path / "local" / "reader", seed=5).model("cd")
    with pytest.raises(StoreReadOnly):
        reader.sync()
