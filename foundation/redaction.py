"""Removal of secrets from texts before they are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote

MIN_SECRET_LENGTH = 8  # letters of a secret; a shorter one is a word, or of a practice server
MIN_EMBEDDED_SECRET_LENGTH = 16  # letters from which a secret is found inside other words, too
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")


def redact_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """Replace each secret in a text by its name, and remove passwords from addresses.

    A secret shorter than 8 letters is not replaced: a key `x` would be replaced in every word. A
    secret shorter than 16 letters is replaced only as a whole word, a longer secret anywhere.

    secrets: secrets by their names; forms escaped for Python, JSON and addresses are replaced, too.
    """
    for name, secret in sorted(secrets.items(), key=lambda item: -len(item[1])):
        for form in _secret_spellings(secret):
            if len(secret) >= MIN_EMBEDDED_SECRET_LENGTH:
                text = text.replace(form, name)
            elif len(secret) >= MIN_SECRET_LENGTH:
                alone = rf"(?<![^\W_]){re.escape(form)}(?![^\W_])"
                text = re.sub(alone, name, text)
    return _URL_CREDENTIALS.sub("[secret]@", text)


def _secret_spellings(secret: str) -> list[str]:
    """Return a secret and its forms escaped for Python, JSON and URLs, longest first."""
    escaped = secret.encode("unicode_escape").decode()
    forms = {secret, escaped, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")}
    return sorted(forms, key=len, reverse=True)


class Redactor(Protocol):
    """Protocol of objects that remove secrets from texts, such as the keys of an account."""

    def redact(self, text: str) -> str:
        """Return the text without secrets."""
        ...


class NullRedactor:
    """A redactor that changes nothing, for a process without keys."""

    def redact(self, text: str) -> str:
        return text


NULL_REDACTOR = NullRedactor()
