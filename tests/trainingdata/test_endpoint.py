"""What the venue's failures are called: one bounded line that holds no part of a key."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import BrokerError, InputError, InvalidResponse
from tests.support.messages import refused
from tests.support.raw_server import answering
from trainingdata.feed.endpoint import (
    KEY_VARIABLE,
    SECRET_VARIABLE,
    ApiKeys,
    BrokerSettings,
    translate_venue_errors,
)
from trainingdata.feed.fields import RequiredField, as_mapping, parse_decimal

KEYS = ApiKeys("PKAAAABBBBCCCCDDDD", "sEcReTsEcReTsEcReTsEcReT0123456789")
Ask = Callable[[Any], object]


def failure(status: int, body: bytes, ask: Ask) -> str:
    """What is said when the SDK's client asks for the account and the venue answers so."""
    from alpaca.trading.client import TradingClient

    head = f"HTTP/1.1 {status} So\r\nContent-Type: application/json\r\nConnection: close\r\n"
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with answering(lambda connection, _: connection.sendall(whole)) as (url, _):
        settings = BrokerSettings(url_override=url, attempts=1)
        client = settings.install_transport(
            TradingClient(KEYS.key, KEYS.secret, raw_data=True, url_override=url)
        )
        with (
            pytest.raises(BrokerError) as caught,
            translate_venue_errors("the account", settings, KEYS),
        ):
            ask(client)
        return str(caught.value)


def cash(client: Any) -> object:
    return RequiredField("cash", parse_decimal).read(as_mapping(client.get_account()))


def no_number(client: Any) -> object:
    raise ValueError(client.get_account())


@pytest.mark.first_example
@pytest.mark.parametrize("secret", [KEYS.key, KEYS.secret], ids=["key", "secret"])
@pytest.mark.parametrize(
    ("status", "body", "ask"),
    [
        (500, "{}", cash),
        (403, '{{"message": "{}"}}', cash),
        (200, '"{}"', cash),
        (200, '["{}"]', cash),
        (200, '{{"cash": "{}"}}', cash),
        (200, '"{}"', no_number),
    ],
    ids=["status", "refusal", "text", "list", "field", "another error"],
)
def test_errors_reveal_no_part_of_a_key(status: int, body: str, ask: Ask, secret: str) -> None:
    pieces = [secret[k : k + 6] for k in range(len(secret) - 5)]
    for before in itertools.chain(range(20, 105, 5), range(225, 305, 5)):
        line = failure(status, body.format("x" * before + secret + "y" * 400).encode(), ask)
        assert not [piece for piece in pieces if piece in line], (before, line)
        assert line.splitlines() == [line]
        assert len(line) < 600


@pytest.mark.parametrize("answer", [{"cash": "a\nb" * 500}, {"cash": "a\nb"}, {"cash": [9] * 999}])
def test_unreadable_response_error_is_one_short_line(answer: dict[str, Any]) -> None:
    with refused(InvalidResponse, "cash") as caught:
        RequiredField("cash", parse_decimal).read(answer)
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert len(str(caught.value)) < 400
    with refused(InvalidResponse) as caught:
        as_mapping(json.dumps(answer) * 500)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("opening", [b"[", b'{"cash": '], ids=["lists", "objects"])
def test_endlessly_nested_response_is_refused(opening: bytes) -> None:
    line = failure(200, opening * 100_000, cash)
    assert line.endswith("the account: invalid response: JSON is nested too deeply")


def test_multiline_error_reason_is_shown_in_one_line() -> None:
    assert str(InvalidResponse("a\n\r\x0bb")).endswith(": a b")


@pytest.mark.parametrize("name", [KEY_VARIABLE, SECRET_VARIABLE])
@given(control=st.characters(max_codepoint=0x9F, categories=["Cc", "Zs"]), at=st.integers(1, 15))
def test_error_about_an_invalid_api_key_hides_it(name: str, control: str, at: int) -> None:
    letters = "q1w2e3r4t5y6u7i8"
    keys = {
        KEY_VARIABLE: "K" * 16,
        SECRET_VARIABLE: "S" * 16,
        name: letters[:at] + control + letters[at:],
    }
    with pytest.raises(InputError, match=f"^{name}: contains an invalid character") as caught:
        ApiKeys.from_environment(keys)
    assert not set("12345678") & set(str(caught.value))
