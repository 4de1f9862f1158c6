"""Credentials that the client library does not find by itself: AWS profiles, connection strings.

Invariant: environment variables, web identity, container and instance roles stay the client's
business; what is read here never appears in a message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from casinductor.errors import InvalidName, Unsupported

#: Where a process on AWS finds credentials without any file of profiles.
_ELSEWHERE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_STATIC = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}
#: Profile settings that mean: ask a service or a program for credentials.
_DYNAMIC = ("role_arn", "sso_session", "sso_account_id", "credential_process", "login_session")
_AZURE = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}


@dataclass
class Profile:
    """What an AWS profile says: settings of the client, or a provider to ask each time."""

    config: dict[str, Any] = field(default_factory=dict)
    provider: Any = None
    region: str | None = None
    endpoint: str | None = None


def aws(environ: Mapping[str, str], named: str | None = None) -> Profile:
    """The profile that AWS's own tools would use, empty if credentials come from elsewhere.

    A profile that was named, by ``named`` or ``AWS_PROFILE``, wins over the environment's keys, as
    with AWS's tools. Raises :class:`InvalidName` if it is in neither file,
    :class:`Unsupported` if it needs boto3 (roles, SSO, programs) and that is not installed.
    """
    chosen = named or environ.get("AWS_PROFILE") or ""
    if not chosen and any(environ.get(name) for name in _ELSEWHERE):
        return Profile()
    settings = _profile(environ, chosen or "default")
    if settings is None:
        if chosen:
            raise InvalidName(f"there is no AWS profile {chosen!r} in the files of profiles")
        return Profile()
    found = Profile(region=settings.get("region"), endpoint=settings.get("endpoint_url"))
    if "aws_access_key_id" in settings and "aws_secret_access_key" in settings:
        found.config = {ours: settings[name] for name, ours in _STATIC.items() if name in settings}
    elif any(name in settings for name in _DYNAMIC):
        found.provider = _boto3(chosen or "default")
    return found


def _profile(environ: Mapping[str, str], name: str) -> dict[str, str] | None:
    """The settings of a profile in both files, the credentials file winning."""
    import configparser  # where a profile is named only

    home = Path(environ.get("HOME") or os.path.expanduser("~")) / ".aws"
    config = environ.get("AWS_CONFIG_FILE") or str(home / "config")
    secrets = environ.get("AWS_SHARED_CREDENTIALS_FILE") or str(home / "credentials")
    section = "default" if name == "default" else f"profile {name}"
    found: dict[str, str] | None = None
    for path, wanted in ((config, section), (secrets, name)):
        parser = configparser.RawConfigParser(default_section="\0none")
        try:
            parser.read(os.path.expanduser(path), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise InvalidName(f"{path} is not a file of AWS profiles") from error
        if parser.has_section(wanted):
            found = {**(found or {}), **dict(parser.items(wanted))}
    return found


def _boto3(profile: str) -> Any:
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise Unsupported(
            f"the AWS profile {profile!r} asks a service for credentials, which needs the package "
            "boto3: pip install boto3"
        ) from error
    try:
        return Boto3CredentialProvider(boto3.Session(profile_name=profile))
    except Exception as error:  # botocore's errors have no common base
        raise Unsupported(f"the AWS profile {profile!r} cannot be used: {error}") from error


def azure(environ: Mapping[str, str]) -> dict[str, str]:
    """Settings from ``AZURE_STORAGE_CONNECTION_STRING``; the client knows the other variables.

    Raises :class:`InvalidName` if it is none.
    """
    text = environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if not text:
        return {}
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    found = {ours: parts[name] for name, ours in _AZURE.items() if name in parts}
    if not {"account_name", "endpoint"} & found.keys():
        raise InvalidName("AZURE_STORAGE_CONNECTION_STRING is not a connection string")
    return found
