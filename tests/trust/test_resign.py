"""Carrying caches over to signatures, and what the commands say of keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.trust.conftest import Signed


def command(
    signed: Signed, *arguments: str, signer: str | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "CASINDUCTOR_STORE": signed.fleet.address,
        "CASINDUCTOR_STATE_DIR": str(signed.fleet.folder / "state" / "cli"),
        "CASINDUCTOR_GPU_TYPE": "H100",
        "CASINDUCTOR_TRUSTED_KEYS": signed.keyring(),
        **({"CASINDUCTOR_SIGNING_KEY": signed.key(signer)} if signer else {}),
        **more,
    }
    return subprocess.run(
        [sys.executable, "-m", "casinductor", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def lines_of(signed: Signed, *more: str) -> list[Any]:
    found: list[Any] = json.loads(command(signed, "trust", "--json", *more).stdout)
    return found


def test_unsigned_caches_are_carried_over(signed: Signed) -> None:
    for name in ("ab", "cd"):
        signed.publish(name, None, believes=False)
    signed.publish("xx", "mallory", believes=False)
    signed.publish("ef", "ci")
    assert signed.restored() == {"ef"}
    done = command(signed, "resign", "model/v1", signer="ci")
    assert done.returncode == 0, done.stderr
    assert "2 manifests signed anew" in done.stdout
    assert signed.restored() == {"ab", "cd", "ef"}  # the stranger's was not named
    again = command(signed, "resign", "--all", signer="ci")
    assert "nothing unsigned" in again.stdout
    whoever = command(signed, "resign", "--all", "--any", signer="ci")
    assert whoever.returncode == 0, whoever.stderr
    assert signed.restored() == {"ab", "cd", "ef", "xx"}


def test_who_published_what(signed: Signed) -> None:
    signed.publish("ab", "ci")
    signed.publish("cd", None, believes=False)
    told = {(line["signer"], line["verdict"], line["manifests"]) for line in lines_of(signed)}
    assert told == {("ci", "believed", 1), ("", "not signed", 1)}
    revoked = lines_of(signed, "--revoked", signed.key("ci") + ".pub")
    assert {line["verdict"] for line in revoked} == {"signed by a revoked key", "not signed"}


@pytest.mark.parametrize(
    ("arguments", "signer", "status", "said"),
    [
        (["resign", "model/v1"], None, 2, "CASINDUCTOR_SIGNING_KEY"),
        (["resign", "model/v1"], "mallory", 11, "not among the trusted ones"),
        (["resign"], "ci", 2, "--all"),
        (["rm", "model/v1"], None, 11, "CASINDUCTOR_SIGNING_KEY is not"),
        (["hide", "model/v1", "fababab"], None, 11, "CASINDUCTOR_SIGNING_KEY is not"),
    ],
)
def test_what_cannot_be_done_is_said(
    signed: Signed, arguments: list[str], signer: str | None, status: int, said: str
) -> None:
    signed.publish("ab", "ci")
    done = command(signed, *arguments, signer=signer)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr


def test_a_pull_of_what_nobody_trusted_signed(signed: Signed) -> None:
    signed.publish("ab", None, believes=False)
    target = str(signed.fleet.folder / "out")
    done = command(signed, "pull", "model/v1", "--to", target)
    assert done.returncode == 11
    assert "1 manifest not believed: not signed" in done.stderr


def test_hide_and_unhide(signed: Signed) -> None:
    signed.publish("ab", "ci")
    signed.publish("cd", "ci")
    hidden = command(signed, "hide", "model/v1", "fababab", "--json", signer="ci")
    assert hidden.returncode == 0, hidden.stderr
    record = json.loads(hidden.stdout)["manifest"]
    assert signed.restored() == {"cd"}
    listed = json.loads(command(signed, "hide", "model/v1", "--list", "--json").stdout)
    assert [line["manifest"] for line in listed] == [record]
    shown = command(signed, "unhide", "model/v1", record, signer="ci")
    assert shown.returncode == 0, shown.stderr
    assert signed.restored() == {"ab", "cd"}
