"""The tables of an account's page: what is held, what was decided last, what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from execution.decision import plan_text
from execution.journal.decisions import ChoiceRow
from execution.journal.marks import AccountMark
from execution.journal.notices import NoticeRow
from execution.live.page_words import hour
from foundation.figures import basis_points, multiple, price, quantity, usd
from foundation.tables import Cell, Row, Table, bar, upright
from trainingdata.instants import HOUR
from trainingdata.instruments import is_symbol

CHOICES = (
    *("symbol", "decided, UTC", "forecast μ", "σ", "Kelly", "held", "target", "order", "price"),
    *("bound by", "rests on"),
)
CEILING = 40  # of 50, where a bar comes to its ceiling; an equity where it has none


def position_table(mark: AccountMark, position: float, coins: float | None) -> Table:
    """What is held, the largest first, after the gross of stocks and coins; multiples of equity.

    position: share of equity that a position may come to.
    coins: gross of coins, a multiple of equity; none for an account of event contracts.
    """
    largest = sorted(mark.positions.items(), key=lambda item: -abs(item[1]))
    rows = [
        _position(mark, name, value, position if coins is None or is_symbol(name) else None)
        for name, value in largest
    ]
    if coins is not None and rows:
        stocks = _position(mark, "stocks, gross", mark.gross_stock, mark.stock_ceiling)
        rows = [stocks, _position(mark, "coins, gross", mark.gross_crypto, coins), *rows]
    return Table("Positions", ("held", "of equity", "at most", "USD", ""), rows)


def choice_table(choices: Sequence[ChoiceRow], last: str) -> Table:
    """What was decided last of each symbol; muted where an earlier decision than `last` did."""
    rows = []
    for row in choices:
        c = row.choice
        plan = plan_text(c.basis, float((row.until - row.at) / HOUR)).lstrip("; ")
        texts = (
            c.symbol,
            hour(row.at),
            basis_points(c.mu, 1, sign=True),
            basis_points(c.sigma, 1),
            multiple(c.kelly, sign=True),
            multiple(c.held, 3, sign=True),
            multiple(c.target, 3, sign=True),
            quantity(c.qty, sign=True) if c.qty else "none",
            price(c.price),
            _binding_text(c.binding),
            plan or "the forecast alone",
        )
        rows.append([Cell(text, "" if row.decision == last else "muted") for text in texts])
    return Table("Choices of the last decision", CHOICES, rows, words=(9, 10))


def notice_table(notices: Sequence[NoticeRow]) -> Table:
    """What a person was told of."""
    rows = [(hour(each.at), each.kind, each.text) for each in notices]
    return Table("Alerts", ("at, UTC", "of", "what was said"), rows, words=(1, 2))


def _binding_text(binding: Mapping[str, float]) -> str:
    """The limits that bound a choice, and what one more of each would be worth."""
    worth = {
        name: "" if np.isnan(value) else f" (worth {basis_points(value, 1, sign=True)})"
        for name, value in binding.items()
    }
    return ", ".join(f"{name}{text}" for name, text in worth.items()) or "nothing"


def _position(mark: AccountMark, name: str, value: float, ceiling: float | None) -> Row:
    """What is held of something, USD, beside its ceiling, a multiple of equity."""
    weight = value / mark.equity if mark.equity > 0 else np.nan
    above = ceiling is not None and abs(weight) > ceiling
    end = np.nan_to_num(np.clip(CEILING * weight / (ceiling or 1.0), -50, 50))
    shapes = [bar(50, 50 + float(end), "above" if above else ""), upright(50)]
    if ceiling:
        shapes += [upright(50 - CEILING, "nominal"), upright(50 + CEILING, "nominal")]
    held = multiple(weight, 3, sign=True)
    of_equity = Cell(f"{held} above", "bad") if above else held
    return name, of_equity, multiple(ceiling), usd(value, 0), Cell("", drawing=shapes)
