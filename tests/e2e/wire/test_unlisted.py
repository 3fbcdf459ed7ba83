"""A symbol that the venue does not have is refused before anything is decided or written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from execution import get_qty
from foundation.errors import InputError
from tests.e2e.practice import OPENING, Practice, environment, practising
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message, refused

RAW = ("forecaster=ewma", "forecaster.calibrated=false", "bar_wait_seconds=0", "broker.attempts=1")
EQUAL = "sizing.strategy=equal_weight"
MISSPELT = "SYBB is not listed by the venue; did you mean SYB?"


@pytest.fixture(scope="module")
def server() -> Iterator[Practice]:
    with practising() as start:
        here = start("symbols=[SYA,SYB,SYXUSD]")
        here.advance(OPENING)
        yield here


@pytest.fixture
def here(server: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Practice:
    """The server, and an empty folder in which commands run with the account's keys."""
    server.clear_faults()
    monkeypatch.chdir(tmp_path)
    for name, value in environment(tmp_path).items():
        if name != "PATH":
            monkeypatch.setenv(name, value)
    return server


def at(here: Practice, *words: str) -> tuple[str, ...]:
    return (*words, f"broker.url_override={here.url}", *RAW)


@pytest.mark.parametrize("mode", ["preview", "mode=paper", "mode=replay"])
@pytest.mark.parametrize(
    ("symbols", "facts"),
    [
        ("symbols=[SYA,SYBB]", ("SYBB", "SYB")),
        ("symbols=[SYA,SYX]", ("SYX", "SYXUSD")),
        ("symbols=[SYA,SYBEUR]", ("SYBEUR", "EUR")),
    ],
)
def test_unlisted_symbol_is_refused_before_writing_anything(
    here: Practice, tmp_path: Path, mode: str, symbols: str, facts: tuple[str, ...]
) -> None:
    line = refusal_of("trade_stock_e2e", *at(here, mode, symbols, "output=out"))
    check_message(line, *facts)
    assert here.posts == []
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (("SYBB",), ("SYBB", "SYB")),
        (("SYBEUR",), ("SYBEUR", "EUR")),
        (("SYA", "symbols=[SYA,SYBB]"), ("SYBB", "SYB")),
    ],
)
def test_quantity_of_unlisted_symbol_is_refused(
    here: Practice, words: tuple[str, ...], facts: tuple[str, ...]
) -> None:
    symbol, *overrides = words
    with refused(InputError, *facts):
        get_qty(symbol, 150.0, *at(here, *overrides))


def test_unlisted_symbol_among_over_fifty_is_refused(here: Practice) -> None:
    """For more than 50 symbols the complete asset list is read, which contains active assets
    only.
    """
    more = ",".join(f"N{number}" for number in range(60))
    check_message(
        refusal_of("trade_stock_e2e", *at(here, "preview", f"symbols=[SYA,{more}]")), "N0"
    )


def test_untradable_asset_is_not_reported_as_unlisted(here: Practice) -> None:
    here.venue.flags["SYB"] = {"tradable": False}
    try:
        code, said, _ = answer_of("trade_stock_e2e", *at(here, "preview", "symbols=[SYA,SYB]"))
    finally:
        here.venue.flags.clear()
    assert code == 0
    assert "SYB is not decided: the venue accepts no orders for it." in said


def test_failed_asset_query_is_not_reported_as_unlisted(here: Practice) -> None:
    here.fail(kind="status", status=500, path="/v2/assets", count=99)
    words = at(here, "mode=paper", "symbols=[SYA,SYB]", "cycles=1", EQUAL)
    assert "listed by the venue" not in answer_of("trade_stock_e2e", *words)[2]


def test_delisted_symbol_does_not_keep_loop_from_starting(here: Practice) -> None:
    words = at(here, "mode=paper", "symbols=[SYA,SYB]", "cycles=1", EQUAL)
    assert answer_of("trade_stock_e2e", *words)[0] == 0
    here.fail(kind="status", status=404, path="/v2/assets/SYB", count=99)
    code, _, said = answer_of("trade_stock_e2e", *words)
    assert code == 0, said
    assert "listed by the venue" not in said
