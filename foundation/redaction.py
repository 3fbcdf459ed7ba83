"""Secrets taken out of a text before anybody sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote

MIN_SECRET_LENGTH = 8  # letters of a secret; what is shorter is a word, or a practice server's
MIN_EMBEDDED_LENGTH = 16  # letters from which on no ordinary word holds a secret by chance
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+@")


def redact_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """The text with the name of each secret in its place, and no password in an address.

    A secret shorter than 8 letters stays: a key `x` would take the letter out of every word. One
    shorter than 16 goes where it stands alone, and a longer one wherever it is.

    secrets: by what stands in their place; they go as Python, JSON and addresses write them, too.
    """
    for name, secret in sorted(secrets.items(), key=lambda item: -len(item[1])):
        for form in _forms(secret):
            if len(secret) >= MIN_EMBEDDED_LENGTH:
                text = text.replace(form, name)
            elif len(secret) >= MIN_SECRET_LENGTH:
                alone = rf"(?<![^\W_]){re.escape(form)}(?![^\W_])"
                text = re.sub(alone, name, text)
    return _IN_ADDRESS.sub("[secret]@", text)


def _forms(secret: str) -> list[str]:
    """How a secret may stand in a text, longest first."""
    escaped = secret.encode("unicode_escape").decode()
    forms = {secret, escaped, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")}
    return sorted(forms, key=len, reverse=True)


class Redactor(Protocol):
    """Keys of an account, or whatever else knows the secrets of a text."""

    def redact(self, text: str) -> str:
        """Return the text without secrets."""
        ...


class NoSecrets:
    """The redactor of a process without keys."""

    def redact(self, text: str) -> str:
        return text


NO_SECRETS = NoSecrets()
