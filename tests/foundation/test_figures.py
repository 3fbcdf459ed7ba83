"""Numbers are written in one place, so that one number has one text."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from foundation.formatting import (
    NO_VALUE,
    format_basis_points,
    format_duration,
    format_interval,
    format_minute,
    format_multiple,
    format_number,
    format_percent,
    format_plus_minus,
    format_price,
    format_quantity,
    format_rounded_price,
    format_short_usd,
    format_usd,
)

ROOT = Path(__file__).parents[2]
READ = (  # output for readers: results, pages, reports and the terminal
    "marketsimulator/results/**/*.py",
    "forecasting/evaluation_*.py",
    "execution/live/page*.py",
    "marketsimulator/explain.py",
    "event_contracts/simulation/*_page.py",
    "event_contracts/trading/position_sizes.py",
    "option_spreads/simulation/spread_report.py",
    "option_spreads/monte_carlo.py",
)
# A path of a drawing, as in V12.5, is no figure.
SPECIFICATION = re.compile(r"""(?<![MHV])\{[^{}"]+:(\+?,?\.\d[f%]|\+,?|,\.\d[f%])\}|"\{:""")
ALLOWED = {  # data and refusals, not figures that are read
    'Decimal(f"{float(trade.total_profit):.2f}"),',
    'raise ValueError(f"trips in {symbol} earn {usd} USD, no {contributions[symbol]:.6%}")',
    'f"data.dir: equity at {when} is {account.equity:,.2f} USD with the prices of"',
    'f" {bars.source}, but {held.equity:,.2f} USD in the run; {_RUN_BARS_HINT}"',
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (format_number(-1234.5), "-1,234.50"),
        (format_number(None), NO_VALUE),
        (format_number(math.nan, sign=True), NO_VALUE),
        (format_number(-0.004, sign=True), "0.00"),
        (format_number(0.004, 3, sign=True), "+0.004"),
        (format_usd(Decimal("-0.1")), "-$0.10"),
        (format_usd(1, sign=True), "+$1.00"),
        (format_usd(-0.4, 0), "$0"),
        (format_short_usd(Fraction(10_000)), "$10,000"),
        (format_short_usd(Fraction("1234.5")), "$1,234.50"),
        (format_percent(0.125), "12.50%"),
        (format_percent(-0.1, 0, sign=True), "-10%"),
        (format_basis_points(-0.000125, 1, sign=True), "-1.2 bp"),
        (format_multiple(1.25), "1.25×"),
        (format_quantity(Decimal("1250.50")), "1,250.5"),
        (format_quantity(1e-7, sign=True), "+0.0000001"),
        (format_quantity(12_345_678.0, 6), "12,345,700"),
        (format_quantity(None), NO_VALUE),
        (format_price("1250.5"), "$1,250.50"),
        (format_price(0.12345), "$0.12345"),
        (format_price(226.1501007080078), "$226.1501"),
        (format_interval((0.1, 0.2), format_percent), "10.00% to 20.00%"),
        (format_interval(None, format_percent), ""),
        (format_plus_minus(0.02, format_percent), " ± 2.00%"),
        (format_plus_minus(None, format_percent), ""),
        (format_duration(0.04), "0.0 s"),
        (format_duration(59.94), "59.9 s"),
        (format_duration(60), "1 minute"),
        (format_duration(90_061), "1 day 1 hour"),
        (format_duration(84_737_566.9), "980 days 18 hours"),
        (format_minute(np.datetime64("2024-10-01T14:30:59")), "2024-10-01 14:30Z"),
    ],
)
def test_formatted_numbers_match_the_expected_text(text: str, said: str) -> None:
    assert text == said


def test_pages_and_reports_use_only_shared_number_formats() -> None:
    files = [path for pattern in READ for path in ROOT.glob(pattern)]
    assert len(files) > 30
    lines = [line.strip() for path in files for line in path.read_text().splitlines()]
    found = {line for line in lines if SPECIFICATION.search(line)}
    assert found <= ALLOWED


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (1250.5, "1,250.5000"),
        (0.001, "0.0010"),
        (0.0009999, "0.0009999"),
        (0.000123456, "0.0001235"),
        (8.7654321e-08, "0.00000008765"),
        (0.0, "0.0000"),
    ],
)
def test_small_prices_have_four_significant_digits(price: float, text: str) -> None:
    assert format_rounded_price(price) == text
    assert format_rounded_price(price, prefix="$") == f"${text}"
