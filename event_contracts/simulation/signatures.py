"""Keys of a practice venue of event contracts, and whether a request is signed with them.

A request carries three headers: KALSHI-ACCESS-KEY is the key's id, KALSHI-ACCESS-TIMESTAMP the
milliseconds since 1970, KALSHI-ACCESS-SIGNATURE the base64 of an RSA-PSS signature with SHA-256 and
a salt of the digest's length, over timestamp + METHOD + path. The path has no query.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY = "KALSHI-ACCESS-KEY"
TIMESTAMP = "KALSHI-ACCESS-TIMESTAMP"
SIGNATURE = "KALSHI-ACCESS-SIGNATURE"
BITS = 2048
PATIENCE = 5_000  # milliseconds that a timestamp may be off; how many the real venue allows is U


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A throw-away key: whoever serves knows both halves.

    key_id: what names it.
    private_key: the half that signs; never printed.
    """

    key_id: str
    private_key: rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def new(cls) -> KeyPair:
        """Another one."""
        key = rsa.generate_private_key(public_exponent=65_537, key_size=BITS)
        return cls(str(uuid.uuid4()), key)

    @property
    def pem(self) -> str:
        """The private key as PEM text (PKCS #8), unencrypted."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def refusal(self, headers: Mapping[str, str], method: str, path: str, now: int) -> str | None:
        """Why a request is not this key's, in words; nothing where it is.

        path: without a query. now: milliseconds since 1970.
        """
        missing = [name for name in (KEY, TIMESTAMP, SIGNATURE) if not headers.get(name)]
        if missing:
            return f"{missing[0]} is missing"
        if headers[KEY] != self.key_id:
            return "there is no such key"
        stamp = headers[TIMESTAMP]
        if not (stamp.isascii() and stamp.isdigit()) or abs(int(stamp) - now) > PATIENCE:
            return f"{TIMESTAMP} is not within {PATIENCE} ms of the clock"
        if not self._signed(headers[SIGNATURE], f"{stamp}{method}{path}"):
            return "the signature does not fit"
        return None

    def _signed(self, signature: str, message: str) -> bool:
        digest = hashes.SHA256()
        scheme = padding.PSS(padding.MGF1(digest), salt_length=digest.digest_size)
        public = self.private_key.public_key()
        try:
            given = base64.b64decode(signature, validate=True)
            public.verify(given, message.encode(), scheme, digest)
        except (binascii.Error, InvalidSignature, ValueError):
            return False
        return True
