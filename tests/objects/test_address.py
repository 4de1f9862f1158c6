"""Addresses and credentials: what they mean, and that no secret gets into a name or a message."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from casinductor.errors import InvalidName, Unsupported
from casinductor.store.backends import credentials
from casinductor.store.backends.address import open_backend


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials from anywhere."""
    import os

    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "STORAGE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("S3://bucket/a?region=eu-west-1", "s3://bucket/a"),
        ("s3://b/a?endpoint=http://h:1/&region=x", "s3://b/a?endpoint=http://h:1"),
        ("s3://b/a%20b?anonymous=1", "s3://b/a b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a?account=acme", "az://container/a?account=acme"),
    ],
)
def test_one_place_has_one_url(address: str, url: str) -> None:
    if address.startswith("gs"):
        address += "?anonymous=1"
    assert open_backend(address).url == url


def test_the_environment_names_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://one:1")
    assert open_backend("s3://b").url == "s3://b?endpoint=http://one:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://two:2/")
    assert open_backend("s3://b").url == "s3://b?endpoint=http://two:2"
    assert open_backend("s3://b?endpoint=http://3").url == "s3://b?endpoint=http://3"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://", "names no bucket"),
        ("s3:///key", "names no bucket"),
        ("s3://b/a//c", "empty part"),
        ("s3://b/../c", "of dots"),
        ("s3://b/a#c", "has a '#'"),
        ("s3://b/a?secret=x", "has the option 'secret'"),
        ("s3://b/a?anonymous=yes", "must be 0 or 1"),
        ("s3://b/a?endpoint=ftp://x", "not an http or https address"),
        ("s3://b/a?profile=nobody", "no AWS profile 'nobody'"),
    ],
)
def test_addresses_that_make_no_sense(address: str, said: str) -> None:
    with pytest.raises(InvalidName, match=said):
        open_backend(address)


@pytest.mark.parametrize(
    "address",
    ["s3://AKIA:hushhush@bucket/x", "s3://b/x?endpoint=https://me:hushhush@host"],
)
def test_secrets_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(InvalidName, match="credentials") as raised:
        open_backend(address)
    assert "hushhush" not in str(raised.value)


def test_other_schemes(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="ftp://x is neither a directory nor one of s3://"):
        open_backend("ftp://x")
    assert open_backend(f"file://{tmp_path}").url == str(tmp_path)


def test_static_profiles(tmp_path: Path) -> None:
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = B%x\n"
        "[other]\naws_access_key_id = C\naws_secret_access_key = D\naws_session_token = E\n"
    )
    (folder / "config").write_text(
        "[default]\nregion = eu-west-1\n[profile other]\nendpoint_url = http://h:1\n"
    )
    home = {"HOME": str(tmp_path)}
    default = credentials.aws(home)
    assert default.config == {"access_key_id": "A", "secret_access_key": "B%x"}
    assert (default.region, default.endpoint) == ("eu-west-1", None)
    for other in (
        credentials.aws({**home, "AWS_PROFILE": "other"}),
        credentials.aws({**home, "AWS_ACCESS_KEY_ID": "z"}, "other"),
    ):
        assert other.config["session_token"] == "E"
        assert other.endpoint == "http://h:1"
    assert credentials.aws({**home, "AWS_ACCESS_KEY_ID": "z"}).config == {}
    assert credentials.aws({"HOME": str(tmp_path / "nowhere")}).config == {}
    assert open_backend("s3://b?profile=other").url == "s3://b?endpoint=http://h:1"


def test_a_profile_that_asks_a_service_needs_boto3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text("[default]\nrole_arn = arn:aws:iam::1:role/r\n")
    with pytest.raises(Unsupported, match="pip install boto3"):
        credentials.aws({"HOME": str(tmp_path)})


def test_a_file_that_is_none_of_profiles(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("aws_access_key_id = A\n")
    with pytest.raises(InvalidName, match="credentials is not a file of AWS profiles"):
        credentials.aws({"HOME": str(tmp_path)})


def test_connection_strings() -> None:
    text = "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=a2V5==;EndpointSuffix=x"
    found = credentials.azure({"AZURE_STORAGE_CONNECTION_STRING": text})
    assert found == {"account_name": "acme", "account_key": "a2V5=="}
    with pytest.raises(InvalidName, match="not a connection string"):
        credentials.azure({"AZURE_STORAGE_CONNECTION_STRING": "hello"})
    assert credentials.azure({}) == {}
