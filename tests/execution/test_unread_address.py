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


def keys_with(address: str) -> Keys:
    return Keys.of({KEY: "k", SECRET: "s", BASE_URL: address})


@pytest.mark.parametrize(
    ("address", "settings", "used"),
    [
        ("https://api.alpaca.markets", BrokerSettings(), "https://paper-api.alpaca.markets"),
        ("https://paper-api.alpaca.markets", BrokerSettings(paper=False), "https://api.alpaca"),
        (
            "http://127.0.0.1:1",
            BrokerSettings(url_override="http://127.0.0.1:8000/"),
            "http://127.0.0.1:8000 ",
        ),
    ],
)
def test_an_address_of_the_environment_that_is_not_the_one_used_is_said(
    address: str, settings: BrokerSettings, used: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say_unread_address(keys_with(address), settings)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{BASE_URL}={address} in the environment is not read, {used}")
    assert line.endswith(f"broker.url_override={address}")


@pytest.mark.parametrize(
    ("address", "settings"),
    [
        ("", BrokerSettings()),
        ("https://paper-api.alpaca.markets/v2", BrokerSettings()),
        ("https://api.alpaca.markets/", BrokerSettings(paper=False)),
        ("http://127.0.0.1:8000", BrokerSettings(url_override="http://127.0.0.1:8000/")),
    ],
)
def test_without_one_and_where_it_is_the_one_used_nothing_is_said(
    address: str, settings: BrokerSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    say_unread_address(keys_with(address), settings)
    assert capsys.readouterr().err == ""


def test_a_password_in_it_is_not_shown() -> None:
    assert "ada" not in unread_address(
        keys_with("https://ada:pw@elsewhere.example"), BrokerSettings()
    )
