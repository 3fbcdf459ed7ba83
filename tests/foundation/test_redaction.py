"""Keys are taken out of a text whole, and ordinary words stay."""

from __future__ import annotations

import json
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from foundation.redaction import MIN_EMBEDDED_SECRET_LENGTH, MIN_SECRET_LENGTH, redact_secrets

LETTERS = st.characters(codec="ascii", categories=["L", "N"])


def test_short_secret_is_redacted_only_as_whole_word() -> None:
    for text, keys in (
        ("example: the proxy y says exactly why", ("x", "y")),
        ("any thing", ("any", "thing")),
    ):
        assert redact_secrets(text, dict(zip(("[key]", "[secret]"), keys, strict=True))) == text
    secrets = {"[key]": "practice"}
    assert redact_secrets("key=practice, practices", secrets) == "key=[key], practices"


@given(
    secret=st.text(LETTERS, min_size=MIN_EMBEDDED_SECRET_LENGTH, max_size=60),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
def test_key_of_realistic_length_is_hidden_everywhere(secret: str, before: str, after: str) -> None:
    assert secret not in redact_secrets(before + secret + after, {"[]": secret})


@given(
    secret=st.text(st.characters(codec="ascii"), min_size=MIN_EMBEDDED_SECRET_LENGTH, max_size=40),
    control=st.characters(categories=["Cc"]),
)
def test_key_is_hidden_in_every_encoding(secret: str, control: str) -> None:
    secret = f"{secret}{control}x"
    written = [secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")]
    for form in written:
        assert form not in redact_secrets(f"a {form} b", {"[]": secret})


@given(secret=st.text(LETTERS, min_size=MIN_SECRET_LENGTH, max_size=MIN_EMBEDDED_SECRET_LENGTH))
def test_secret_next_to_punctuation_is_redacted(secret: str) -> None:
    for text in (secret, f'{{"key": "{secret}"}}', f"a={secret}&b", f"({secret})"):
        assert secret not in redact_secrets(text, {"[key]": secret})


def test_password_in_a_url_is_always_hidden() -> None:
    text = "https://user:hush@host/v2 and http://token@other:80, me@mail"
    for secrets in ({}, {"[key]": "ab"}):
        assert redact_secrets(text, secrets) == (
            "https://[secret]@host/v2 and http://[secret]@other:80, me@mail"
        )
