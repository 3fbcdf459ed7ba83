"""An address that Alpaca's older client would read is not read here, and that is said."""

from __future__ import annotations

import pytest

from trainingdata.feed.endpoint import (
    BASE_URL,
    KEY,
    SECRET,
    BrokerSettings,
    Keys,
    say_unread_address,
    unread_address,
)

PAPER, REAL = BrokerSettings(), BrokerSettings(paper=False)
HERE = BrokerSettings(url_override="http://127.0.0.1:8000/")


def keys_with(address: str) -> Keys:
    return Keys.of({KEY: "k", SECRET: "s", BASE_URL: address})


@pytest.mark.parametrize(
    ("address", "settings", "used"),
    [
        ("https://api.alpaca.markets", PAPER, "https://paper-api.alpaca.markets"),
        ("https://paper-api.alpaca.markets", REAL, "https://api.alpaca"),
        ("http://127.0.0.1:1", HERE, "http://127.0.0.1:8000 "),
        ("", PAPER, None),
        ("https://paper-api.alpaca.markets/v2", PAPER, None),
        ("https://api.alpaca.markets/", REAL, None),
        ("http://127.0.0.1:8000", HERE, None),
    ],
)
def test_an_address_of_the_environment_that_is_not_the_one_used_is_said(
    address: str, settings: BrokerSettings, used: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    say_unread_address(keys_with(address), settings)
    said = capsys.readouterr().err
    if used is None:
        assert said == ""
        return
    [line] = said.splitlines()
    assert line.startswith(f"{BASE_URL}={address} in the environment is not read, {used}")
    assert line.endswith(f"broker.url_override={address}")


def test_a_password_in_it_is_not_shown() -> None:
    assert "ada" not in unread_address(keys_with("https://ada:pw@elsewhere.example"), PAPER)
