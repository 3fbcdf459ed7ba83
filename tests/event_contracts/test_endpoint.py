"""Keys stay hidden, requests are signed as the venue checks it, real money is asked for twice."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.endpoint import (
    HttpStatusError,
    KalshiConnection,
    KalshiKeys,
    KalshiSettings,
)
from foundation.errors import BrokerError, InputError, InvalidResponse
from tests.event_contracts.practice import KEYS
from tests.support.messages import refused

PEM = KEYS.private_key
THERE = KalshiConnection(KalshiSettings(url_override="http://127.0.0.1:9"), KEYS)
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"))


def pem_of() -> str:
    """A private key of another kind than the venue takes."""
    key = ec.generate_private_key(ec.SECP256R1())
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()


@given(st.sampled_from(["GET", "POST", "DELETE"]), TEXTS, TEXTS, st.integers(0, 2**42))
def test_signature_covers_time_method_and_path_only(
    method: str, path: str, query: str, at: int
) -> None:
    headers = KEYS.signature_headers(method, f"/trade-api/v2/a{path}?{query}", at)
    assert headers["KALSHI-ACCESS-KEY"] == KEYS.key_id
    assert headers["KALSHI-ACCESS-TIMESTAMP"] == str(at)
    KEYS.signing_key.public_key().verify(
        base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"], validate=True),
        f"{at}{method}/trade-api/v2/a{path}".encode(),
        padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32),
        hashes.SHA256(),
    )


def test_keys_are_read_from_environment_text_or_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(PEM)
    ways = (
        {"KALSHI_PRIVATE_KEY": PEM},
        {"KALSHI_PRIVATE_KEY": PEM.replace("\n", "\\n")},
        {"KALSHI_PRIVATE_KEY_PATH": str(path)},
    )
    for way in ways:
        keys = KalshiKeys.from_environment({"KALSHI_API_KEY_ID": f" {KEYS.key_id} ", **way})
        assert (keys.key_id, keys.private_key) == (KEYS.key_id, PEM.strip())


@pytest.mark.parametrize(
    ("environment", "facts"),
    [
        ({}, ("KALSHI_API_KEY_ID",)),
        ({"KALSHI_API_KEY_ID": "a"}, ("KALSHI_PRIVATE_KEY",)),
        (
            {"KALSHI_API_KEY_ID": "a", "KALSHI_PRIVATE_KEY_PATH": "/nowhere/k"},
            ("KALSHI_PRIVATE_KEY_PATH", "/nowhere/k"),
        ),
        ({"KALSHI_API_KEY_ID": "a", "KALSHI_PRIVATE_KEY": "hush"}, ("PEM",)),
        ({"KALSHI_API_KEY_ID": "a", "KALSHI_PRIVATE_KEY": pem_of()}, ("RSA",)),
        ({"KALSHI_API_KEY_ID": "a\nb", "KALSHI_PRIVATE_KEY": PEM}, ()),
    ],
)
def test_missing_or_invalid_keys_give_one_line_error(
    environment: dict[str, str], facts: tuple[str, ...]
) -> None:
    with refused(InputError, *facts) as caught:
        KalshiKeys.from_environment(environment)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_keys_are_redacted_whole_and_by_line() -> None:
    assert repr(KEYS) == "KalshiKeys()"
    lines = [line for line in PEM.splitlines() if not line.startswith("-----")]
    shown = KEYS.redact(f"{KEYS.key_id} {PEM} {lines[1]} and {lines[-1]}")
    assert KEYS.key_id not in shown
    assert not any(line in shown for line in lines)


@pytest.mark.parametrize(
    "failure",
    [f"unknown key {KEYS.key_id}", f"invalid key {' '.join(PEM.split())}", f"invalid key {PEM}"],
    ids=["the id", "the key in a line", "the key"],
)
def test_errors_hide_keys_echoed_by_the_venue(failure: str) -> None:
    for error in (HttpStatusError(400, failure), InvalidResponse(failure), KeyError(failure)):
        with (
            refused(BrokerError, "127.0.0.1:9", "orders") as caught,
            THERE.translate_errors("orders"),
        ):
            raise error
        assert "\n" not in str(caught.value)
        assert KEYS.key_id not in str(caught.value)
        assert not any(
            line in str(caught.value) for line in PEM.splitlines() if not line.startswith("-----")
        )


def test_live_trading_requires_a_second_confirmation() -> None:
    assert KalshiSettings().address == "https://external-api.demo.kalshi.co"
    with refused(InputError, "confirm_live=true"):
        KalshiSettings(mode="live")
    live = KalshiSettings(mode="live", confirm_live=True)
    assert live.address == "https://external-api.kalshi.com"
    assert not live.is_loopback


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "http://127.0.0.1.example.com:80",
        "http://key:word@127.0.0.1:80",
        "http://127.0.0.1:80?a=1",
        "127.0.0.1:8000",
    ],
)
def test_api_keys_are_never_sent_to_other_addresses(url: str) -> None:
    with refused(InputError, "broker.url_override") as caught:
        KalshiSettings(url_override=url)
    assert "word" not in str(caught.value)
