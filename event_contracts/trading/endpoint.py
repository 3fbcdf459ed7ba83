"""The venue's address, and the keys to it and their signatures."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from foundation.errors import InputError
from foundation.patience import RequestSettings
from foundation.redaction import redacted
from foundation.settings import setting, settings_class

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

KEY_ID = "KALSHI_API_KEY_ID"
PRIVATE_KEY = "KALSHI_PRIVATE_KEY"
PRIVATE_KEY_PATH = "KALSHI_PRIVATE_KEY_PATH"
ROOT = "/trade-api/v2"
# Headers of a request: the key's id, milliseconds since 1970, and the signature.
KEY = "KALSHI-ACCESS-KEY"
TIMESTAMP = "KALSHI-ACCESS-TIMESTAMP"
SIGNATURE = "KALSHI-ACCESS-SIGNATURE"
HOSTS = {  # as published in autumn 2026
    "demo": "https://external-api.demo.kalshi.co",
    "live": "https://external-api.kalshi.com",
}
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SHOWN = 8  # characters of a line of a key below which it could be any word

Mode = Literal["demo", "live"]


@dataclass(frozen=True)
class KalshiKeys:
    """What opens an account: the id of a key, and the RSA key that signs for it.

    They are never printed: the object shows itself as `KalshiKeys()`, and `redact` takes both out
    of any text.

    key_id: the venue's name of the key.
    private_key: PEM, not encrypted.
    """

    key_id: str = field(repr=False)
    private_key: str = field(repr=False)

    def __post_init__(self) -> None:
        if not (self.key_id and self.key_id.isascii() and self.key_id.isprintable()):
            raise InputError(f"{KEY_ID}: not an id as the venue writes it")
        _ = self.signing_key

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> KalshiKeys:
        """The keys in an environment: the private one as PEM text, or the path of its file.

        Raises `InputError` naming the variable that is missing or unreadable.
        """
        key_id = environment.get(KEY_ID, "").strip()
        text = environment.get(PRIVATE_KEY, "").strip()
        path = environment.get(PRIVATE_KEY_PATH, "").strip()
        if not key_id or not (text or path):
            missing = PRIVATE_KEY if key_id else KEY_ID
            raise InputError(
                f"{missing}: not set in the environment; an account needs {KEY_ID}, and"
                f" {PRIVATE_KEY} or {PRIVATE_KEY_PATH}"
            )
        if not text:
            try:
                text = Path(path).read_text(encoding="ascii").strip()
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{PRIVATE_KEY_PATH}: {path}: cannot be read ({type(error).__name__})"
                ) from None
        # Files of variables write a line's end as two characters.
        return cls(key_id, text.replace("\\n", "\n").strip())

    @cached_property
    def signing_key(self) -> RSAPrivateKey:
        """The private key, loaded."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(self.private_key.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise InputError(f"{PRIVATE_KEY}: no private key in PEM without a password") from None
        if not isinstance(key, RSAPrivateKey):
            raise InputError(f"{PRIVATE_KEY}: the venue takes RSA keys alone")
        return key

    def headers(self, method: str, path: str, at: int) -> dict[str, str]:
        """What a request is signed with: RSA-PSS with SHA-256, in base64.

        path: from the root of the host; its query is not signed.
        at: milliseconds since 1970.
        """
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        bare = urlsplit(path).path
        digest = hashes.SHA256()
        scheme = padding.PSS(padding.MGF1(digest), salt_length=padding.PSS.DIGEST_LENGTH)
        signature = self.signing_key.sign(f"{at}{method}{bare}".encode(), scheme, digest)
        encoded = base64.b64encode(signature).decode()
        return {KEY: self.key_id, TIMESTAMP: str(at), SIGNATURE: encoded}

    def sign(self, method: str, path: str) -> Mapping[str, str]:
        """What signs each attempt of a request anew, by this machine's clock."""
        return self.headers(method, path, time.time_ns() // 1_000_000)

    def redact(self, text: str) -> str:
        """The text with neither key in it, nor a line of the private one."""
        for line in sorted(self.private_key.splitlines(), key=len, reverse=True):
            if len(line) > _SHOWN and not line.startswith("-----"):
                text = text.replace(line, "[secret]")
        return redacted(text, {"[key]": self.key_id})


@settings_class("broker")
class KalshiSettings(RequestSettings):
    """Where the account is, and how long anything may take."""

    mode: Mode = setting(
        "demo", "demo has an account without money; live needs confirm_live too", key=False
    )
    confirm_live: bool = setting(
        False, "beside mode=live: orders go out with real money", key=False
    )
    url_override: str | None = setting(
        None, "an address on this machine; none means the venue's own"
    )
    landing_seconds: float = setting(
        3600.0,
        "after its end until which an order that the venue does not know may still reach "
        "it; the venue refuses stale signatures, from which age on is not published",
        ge=60,
        le=172_800,
    )

    def __post_init__(self) -> None:
        if self.url_override is not None:
            _check_address(self.url_override)
        elif self.mode == "live" and self.confirm_live is not True:
            raise InputError(
                "mode: live trades real money; say so once more with confirm_live=true"
            )

    @property
    def on_this_machine(self) -> bool:
        """Whether the address is a loopback one, where no money is."""
        return self.url_override is not None

    @property
    def address(self) -> str:
        """Scheme, host and port of the REST interface."""
        return (self.url_override or HOSTS[self.mode]).rstrip("/")


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.port != 0 and "@" not in parts.netloc
        host = parts.hostname
    except ValueError:
        sound, host = False, None
    if not sound or host not in LOOPBACK or parts.path not in ("", "/") or parts.query:
        raise InputError(
            "broker.url_override: a scheme, a host of this machine and a port are needed, as"
            " http://127.0.0.1:8000; keys are sent nowhere else"
        )
