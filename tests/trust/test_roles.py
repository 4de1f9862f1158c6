"""Roles on a real object store, by the policy that ``docs/trust.md`` gives, and on a directory, by
its modes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from casinductor.errors import StoreReadOnly
from tests import servers
from tests.conftest import ObjectFleet, Tree, content
from tests.needs import need, need_root
from tests.servers import BUCKET, Server
from tests.users import open_the_way, run_as

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


JANITOR, PUBLISHER, READER_ID = 3001, 3002, 3003
PUBLISHERS, WORKERS = 4001, 4002
GROUPS = {
    JANITOR: (PUBLISHERS, WORKERS),
    PUBLISHER: (PUBLISHERS, WORKERS),
    READER_ID: (WORKERS,),
}


class Users:
    """A directory as ``docs/trust.md`` says, without its ``uses/``, and three users of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.store.mkdir()
        os.chown(self.store, JANITOR, PUBLISHERS)
        self.store.chmod(0o2775)
        open_the_way(folder)
        self._runs = 0

    def home(self, uid: int) -> Path:
        home = self.folder / str(uid)
        if not home.is_dir():
            home.mkdir()
            os.chown(home, uid, uid)
        return home

    def forget_uses(self) -> None:
        """As if the marks were of another ten seconds: a worker leaves none where one is."""
        for path in self.store.glob("uses/**/*"):
            if path.is_file():
                path.unlink()

    def run(self, uid: int, *arguments: str) -> tuple[int, str]:
        self._runs += 1
        home = self.home(uid)
        done = run_as(
            uid,
            GROUPS[uid],
            list(arguments),
            self.folder / f"aside{self._runs}",
            CASINDUCTOR_STORE=str(self.store),
            CASINDUCTOR_STATE_DIR=str(home / "state"),
            CASINDUCTOR_LOCAL_DIR=str(home / "local"),
            TMPDIR=str(home),
        )
        return done.returncode, done.stdout + done.stderr


def test_roles_by_the_modes_of_a_directory(tmp_path: Path) -> None:
    need("unshare", "setpriv")
    need_root("running as other users")
    users = Users(tmp_path)
    made = Tree(users.home(PUBLISHER) / "local").model("ab")
    for path in (made.root, *made.root.rglob("*")):
        os.chown(path, PUBLISHER, PUBLISHER)

    status, said = users.run(PUBLISHER, "push", "model/v1", "--from", str(made.root))
    assert status == 0, said
    users.forget_uses()
    status, said = users.run(READER_ID, "pull", "model/v1", "--restore", "all")
    assert status == 0, said
    assert "restored 8 of 8 files" in said
    assert "may not write below uses/" in said, "gc would not know that it uses the cache"
    new = users.home(READER_ID) / "local/ab/new.py"
    new.write_text("# new")
    os.chown(new, READER_ID, READER_ID)
    status, said = users.run(READER_ID, "push", "model/v1")
    assert status == 3
    assert f"read-only for uid {READER_ID}" in said

    for path in [path for path in users.store.glob("uses/**") if path.is_dir()]:
        os.chown(path, JANITOR, WORKERS)  # as docs/trust.md says
        path.chmod(0o2775)
    users.forget_uses()
    status, said = users.run(READER_ID, "pull", "model/v1")
    assert (status, "may not write" in said) == (0, False), said
    marks = [path for path in users.store.glob("uses/**/*") if path.is_file()]
    assert [path.stat().st_uid for path in marks] == [READER_ID]
    status, said = users.run(PUBLISHER, "push", "model/v2", "--from", str(made.root))
    assert status == 0, said
    users.forget_uses()
    status, said = users.run(READER_ID, "pull", "model/v2")
    assert (status, "may not write" in said) == (0, False), "folders that come later are shared too"

    status, said = users.run(JANITOR, "compact", "model/v1")
    assert status == 0, said
    status, said = users.run(JANITOR, "gc", "--apply")
    assert status == 0, said
    status, said = users.run(PUBLISHER, "check")
    assert "all good" in said
