"""Resolve how S3 is reached, once for all clients: endpoint, region, addressing, signing.

In the order of the AWS command line: environment variables, then the profile (AWS_PROFILE) in the
AWS config files. botocore reads them, and what it finds is given to Arrow's client, which reads
neither `endpoint_url` nor the addressing style of a profile. The keys themselves are found by both
clients in the same places, and pass through no hands of ours.

AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_REGION or
AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL; AWS_S3_ADDRESSING_STYLE (path or
virtual; default: path where an endpoint is named); AWS_NO_SIGN_REQUEST (yes: requests are not
signed, as for public buckets; so are they where no keys are found).
"""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dcd.errors import StoreError

if TYPE_CHECKING:
    from botocore.session import Session

_YES = ("yes", "true", "1", "on")


@dataclass(frozen=True)
class S3Settings:
    """What is not secret about the S3 connection. `endpoint` None means Amazon's own.

    signed: False for public buckets, whose requests carry no keys.
    """

    endpoint: str | None
    region: str | None
    virtual_hosts: bool
    signed: bool = True

    @classmethod
    def resolved(cls) -> "S3Settings":
        """Resolve them. Raises StoreError if one cannot be understood."""
        return _resolved(settings_digest())


def settings_digest() -> str:
    """Digest the AWS settings, so that new ones take effect in a running process."""
    settings: list[object] = [
        *sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
    ]
    for variable, default in (
        ("AWS_CONFIG_FILE", "~/.aws/config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ):
        path = os.path.expanduser(os.environ.get(variable) or default)
        if os.path.isfile(path):
            status = os.stat(path)
            settings.append((path, status.st_mtime_ns, status.st_size))
    return hashlib.blake2b(repr(settings).encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=4)
def _resolved(digest: str) -> S3Settings:
    from botocore import exceptions as boto
    from botocore.configprovider import ConfiguredEndpointProvider
    from botocore.session import Session

    session = Session()
    try:
        profile = session.get_scoped_config()
        provider = ConfiguredEndpointProvider(session.full_config, profile, "s3")
        found: Any = provider.provide() or None
        region: Any = os.environ.get("AWS_REGION") or session.get_config_variable("region")
    except boto.ProfileNotFound as err:
        raise StoreError(f"AWS_PROFILE: {err}; mend the name, or the AWS config file") from err
    except boto.ConfigParseError as err:
        raise StoreError(f"AWS_CONFIG_FILE: {err}") from err
    endpoint = None
    if found is not None:
        _check_endpoint(found)
        endpoint = found.rstrip("/")
    return S3Settings(endpoint, region, _virtual_hosts(profile, found), _signed(session))


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        is_good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    except ValueError:
        is_good = False
    if not is_good:
        raise StoreError(
            "AWS_ENDPOINT_URL_S3 (or endpoint_url of the AWS profile): expected http://host:port "
            "or https://host, without credentials (those go into AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY)"
        )


def _virtual_hosts(profile: Any, endpoint: str | None) -> bool:
    of_s3 = profile.get("s3")
    in_profile = of_s3.get("addressing_style") if isinstance(of_s3, dict) else None
    style = os.environ.get("AWS_S3_ADDRESSING_STYLE") or in_profile or "auto"
    if style == "auto":
        style = "path" if endpoint else "virtual"
    if style not in ("path", "virtual"):
        raise StoreError(
            "AWS_S3_ADDRESSING_STYLE (or s3.addressing_style of the AWS profile): expected path or "
            f"virtual; found {style!r}"
        )
    return style == "virtual"


def _signed(session: "Session") -> bool:
    from botocore.exceptions import BotoCoreError

    if os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in _YES:
        return False
    try:
        return session.get_credentials() is not None
    except BotoCoreError:  # incomplete ones: the first request says what is missing
        return True
