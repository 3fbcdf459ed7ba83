"""An address that Alpaca's older client would read is not read here, and that is said."""

from __future__ import annotations

from trainingdata.feed.endpoint import BASE_URL, KEY, SECRET, BrokerSettings, Keys, unread_address

PAPER, REAL = BrokerSettings(), BrokerSettings(paper=False)
HERE = BrokerSettings(url_override="http://127.0.0.1:8000/")


def keys_with(address: str) -> Keys:
    return Keys.of({KEY: "k", SECRET: "s", BASE_URL: address})


def test_a_password_in_it_is_not_shown() -> None:
    assert "ada" not in unread_address(keys_with("https://ada:pw@elsewhere.example"), PAPER)
