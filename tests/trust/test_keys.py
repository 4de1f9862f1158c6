"""Keys as people keep them, and that they stay secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.errors import InvalidName, LocalDirectory, Untrusted
from casinductor.settings import Settings
from casinductor.toolkit import load_inductor_cache, sync_inductor_cache
from casinductor.trust import envelope
from casinductor.trust.keys import load_keys, load_revoked
from casinductor.trust.pair import new_pair, read_keys
from casinductor.trust.policy import EVERYBODY, trust_of
from casinductor.trust.signing import load_signer
from tests.conftest import Tree
from tests.needs import need, need_package
from tests.trust.conftest import Signed

DOCS = Path(__file__).resolve().parents[2] / "docs"


class TestPublicKeys:
    def test_names_and_patterns(self, signed: Signed) -> None:
        signed.key("ci", "H100/*", "L4/search/*")
        (key,) = load_keys(signed.key("ci") + ".pub")
        assert (key.name, key.caches) == ("ci", ("H100/*", "L4/search/*"))
        assert key.may_publish_to("H100/bert/v1")
        assert not key.may_publish_to("L4/bert/v1")

    def test_a_directory_of_files_some_with_several(self, signed: Signed) -> None:
        signed.trusted = ["a", "b"]
        keyring = Path(signed.keyring())
        folder = signed.folder / "ring"
        folder.mkdir()
        keyring.rename(folder / "two.pem")
        Path(signed.key("c") + ".pub").rename(folder / "c.pub")
        (folder / "..data").mkdir()  # as in a mounted secret
        assert [key.name for key in load_keys(str(folder))] == ["c", "a", "b"]

    @pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
    def test_openssh(self, signed: Signed, kind: str) -> None:
        need("ssh-keygen")
        path = signed.folder / "ssh"
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "me@home", "-f", str(path)]
        subprocess.run(command, check=True)
        public = (signed.folder / "ssh.pub").read_text()
        (key,) = load_keys(str(path) + ".pub")
        assert key.name == "me@home"
        assert load_signer(str(path), ()).public_key.keyid == key.keyid
        (listed,) = load_keys(f'# people\nme@home namespaces="H100/*" {public}')
        assert (listed.name, listed.caches) == ("me@home", ("H100/*",))

    @pytest.mark.parametrize(
        "text", ["", "hello\n", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
    )
    def test_what_is_no_key_is_an_error(self, signed: Signed, text: str) -> None:
        path = signed.folder / "bad.pem"
        path.write_text(text)
        with pytest.raises(InvalidName, match=r"bad\.pem"):
            load_keys(str(path))

    def test_a_path_may_look_like_a_key(self, signed: Signed) -> None:
        folder = signed.folder / "ssh-keys"
        folder.mkdir()
        Path(signed.key("ci") + ".pub").rename(folder / "ci.pub")
        assert [key.name for key in load_keys(str(folder / "ci.pub"))] == ["ci"]
        assert [key.name for key in load_keys(str(folder))] == ["ci"]

    def test_private_keys_are_not_trusted(self, signed: Signed) -> None:
        with pytest.raises(InvalidName, match="private key"):
            load_keys(signed.key("ci"))

    def test_revoked_by_id_or_file(self, signed: Signed) -> None:
        (key,) = load_keys(signed.key("ci") + ".pub")
        assert load_revoked(key.keyid) == load_revoked(signed.key("ci") + ".pub") == {key.keyid}


class TestSettings:
    def test_without_keys_everybody_is_believed(self) -> None:
        assert trust_of(None, None, None) is EVERYBODY

    def test_a_signing_key_alone_trusts_itself(self, signed: Signed) -> None:
        signed.publish("xx", None, believes=False)
        signed.publish("ab", "ci", believes=False)
        alone = replace(signed.fleet.settings("w"), signing_key=signed.key("ci"))
        report = Cache("model/v1", settings=alone).restore("all")
        assert report.untrusted == {"not signed": 1}

    def test_a_signing_key_is_never_printed(self, signed: Signed) -> None:
        settings = replace(signed.fleet.settings("w"), signing_key="MC4CAQAwBQYDK2VwBCIEIA")
        told = f"{settings!r} {settings} {settings.__rich_repr__()}"
        assert "MC4CAQAwBQYDK2VwBCIEIA" not in told
        assert repr(settings.store) in repr(settings)

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("CASINDUCTOR_TRUSTED_KEYS", "/no/such/file"),
            ("CASINDUCTOR_TRUSTED_KEYS", "/dev/null"),
            ("CASINDUCTOR_REVOKED_KEYS", "/no/such/file"),
            ("CASINDUCTOR_SIGNING_KEY", "/no/such/file"),
            ("CASINDUCTOR_SIGNING_KEY", "awskms:alias/ci#nobody"),
        ],
    )
    def test_what_cannot_be_used_never_means_everybody(
        self,
        signed: Signed,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        variable: str,
        value: str,
    ) -> None:
        signed.publish("xx", None, believes=False)
        local = signed.fleet.folder / "local" / "w"
        monkeypatch.setenv("CASINDUCTOR_STORE", signed.fleet.address)
        monkeypatch.setenv("CASINDUCTOR_LOCAL_DIR", str(local))
        monkeypatch.setenv("CASINDUCTOR_STATE_DIR", str(signed.fleet.folder / "state" / "w"))
        monkeypatch.setenv("CASINDUCTOR_GPU_TYPE", "H100")
        monkeypatch.setenv(variable, value)
        sync_inductor_cache("model/v1", load_inductor_cache("model/v1"))
        assert not list(local.glob("fxgraph/*"))
        assert "cannot restore, this worker goes on without" in caplog.text

    def test_a_pair_never_overwrites(self, signed: Signed) -> None:
        path = signed.key("ci")
        assert os.stat(path).st_mode & 0o777 == 0o600
        with pytest.raises(LocalDirectory, match="cannot be written"):
            new_pair(path, "ed25519", "ci", ())
        assert read_keys(path)[0].keyid == read_keys(path + ".pub")[0].keyid


class TestSecrecy:
    def test_the_key_in_the_environment_is_said_nowhere(
        self, signed: Signed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = Path(signed.key("ci")).read_text()
        secret = text.splitlines()[1]
        monkeypatch.setenv("CASINDUCTOR_SIGNING_KEY", text)
        monkeypatch.setenv("CASINDUCTOR_TRUSTED_KEYS", signed.keyring())
        Tree(signed.fleet.folder / "src").model("ab")
        source = str(signed.fleet.folder / "src")
        store = ["--store", signed.fleet.address, "--gpu", "H100"]
        told = ""
        for command in (
            ["push", "model/v1", "--from", source],
            ["push", "model/v1", "--from", source, "--json"],
            ["trust", "--json"],
            ["doctor", "--json"],
            ["ls", "model/v1", "--json"],
            ["explain", "model/v1"],
        ):
            arguments = [sys.executable, "-m", "casinductor", *command, *store]
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)
            told += done.stdout + done.stderr
        assert "published" in told
        assert secret not in told
        assert secret not in repr(Settings.from_environment())
        for path in signed.fleet.files("*"):
            assert secret.encode() not in path.read_bytes()

    @pytest.mark.parametrize("broken", ["cut", "wrapped", "bare", "encrypted"])
    def test_nor_is_a_broken_one(self, signed: Signed, broken: str) -> None:
        text = Path(signed.key("ci")).read_text()
        secret = text.splitlines()[1]
        if broken == "encrypted":
            need("ssh-keygen")
            path = signed.folder / "locked"
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "hush!", "-f", str(path)]
            subprocess.run(command, check=True)
            text = path.read_text()
            secret = text.splitlines()[2]
        given_text = {
            "cut": text[:-50],
            "wrapped": text.replace("PRIVATE", "SECRET"),
            "bare": secret,
            "encrypted": text,
        }[broken]
        with pytest.raises(InvalidName) as error:
            trust_of(given_text, None, None)
        assert secret not in str(error.value)
        assert error.value.__cause__ is None or secret not in str(error.value.__cause__)


class TestEnvelopes:
    def test_ten_lines_verify_one_without_us(self, signed: Signed, tmp_path: Path) -> None:
        signed.publish("ab", "ci")
        blocks = re.findall(r"```python\n(.*?)```", (DOCS / "trust.md").read_text(), re.DOTALL)
        (script,) = [block for block in blocks if "DSSEv1" in block]
        assert "casinductor" not in script
        (tmp_path / "verify.py").write_text(script)
        (manifest,) = signed.fleet.files("*.manifest")
        command = [sys.executable, str(tmp_path / "verify.py"), str(manifest)]
        done = subprocess.run(
            [*command, signed.key("ci") + ".pub"], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(manifest.relative_to(signed.fleet.store))
        other = subprocess.run(
            [*command, signed.key("mallory") + ".pub"], capture_output=True, check=False
        )
        assert other.returncode

    @settings(
        max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(data=st.data())
    def test_no_change_of_an_envelope_is_believed(self, data: st.DataObject) -> None:
        need_package("securesystemslib", "casinductor[signing]")
        good, keys = GOOD()
        position = data.draw(st.integers(0, len(good)))
        count = data.draw(st.integers(0, 3))
        piece = data.draw(st.binary(max_size=4))
        changed = good[:position] + piece + good[position + count :]
        try:
            envelope.verify("manifests/a/b", b"bytes", changed, keys)
        except Untrusted:
            return
        # What is still believed says the same: white space, or a key's hint that is lost.
        told, before = json.loads(changed), json.loads(good)
        assert told["payload"] == before["payload"]
        assert told["payloadType"] == before["payloadType"]


_made: list[Any] = []


def GOOD() -> tuple[bytes, Any]:
    if not _made:
        from casinductor.trust.keys import TrustedKey
        from casinductor.trust.library import sslib

        signer = sslib().CryptoSigner.generate_ed25519()
        key = TrustedKey("ci", signer.public_key.keyid, (), signer.public_key)
        _made.append((envelope.sign("manifests/a/b", b"bytes", signer), (key,)))
    found: tuple[bytes, Any] = _made[0]
    return found
