"""Measure how often real moves and wrong prices are distinguished, for docs/STUDIES.md.

    python studies/doubtful_prices.py DAILY HOURLY_STOCKS HOURLY_CRYPTO

Each argument is a folder of bars that are adjusted for splits. Errors, squeezes and splits are
planted into them one at a time, at random places from a seed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from foundation.arrays import Array
from trainingdata import load_bars
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars
from trainingdata.confirmation import find_unconfirmed_rows
from trainingdata.instruments import AssetClass
from trainingdata.splits import RARE_SPLIT_RATIOS, classify_moves, compute_overnight_moves

NAMES = ("daily stocks", "hourly stocks", "hourly crypto")
PLANTED = 100  # of each kind in each symbol
MARGIN = 60  # bars before and after a planted error that are judged with it
SQUEEZE = 10  # bars
HEAVY = 5.0  # times the median volume of 20 bars

Spoil = Callable[[Array, int], slice]


def scaled(factor: float, *fields: int, bars: int = 1) -> Spoil:
    """Return a function that multiplies some or all prices of consecutive bars by a factor."""

    def spoil(values: Array, row: int) -> slice:
        for each in range(row, row + bars):
            values[each, list(fields) or slice(VOLUME)] *= factor
            _reach(values, each)
        return slice(row, row + bars)

    return spoil


def doubled_digit(values: Array, row: int) -> slice:
    """Repeat the first digit of a bar's close, a typing error: 661.08 for 61.08."""
    text = f"{values[row, CLOSE]:.6f}"
    place = len(text) - len(text.lstrip("0."))
    values[row, CLOSE] = float(text[: place + 1] + text[place:])
    _reach(values, row)
    return slice(row, row + 1)


def stuck(values: Array, row: int) -> slice:
    """Replace five bars by the close before them."""
    values[row : row + 5, :VOLUME] = values[row - 1, CLOSE]
    return slice(row, row + 5)


def _reach(values: Array, row: int) -> None:
    """Widen high and low to the bar's other prices."""
    values[row, HIGH] = values[row, :VOLUME].max()
    values[row, LOW] = values[row, :VOLUME].min()


ERRORS: dict[str, Spoil] = {
    "all prices × 100": scaled(100.0),
    "all prices × 0.1": scaled(0.1),
    "all prices × 0.5": scaled(0.5),
    "close × 0.5": scaled(0.5, CLOSE),
    "high × 2 (a spike)": scaled(2.0, HIGH),
    "first digit twice": doubled_digit,
    "two bars × 100": scaled(100.0, bars=2),
    "two bars × 0.5": scaled(0.5, bars=2),
    "close repeated for five bars": stuck,
}


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def histories(bars: Bars) -> Iterator[tuple[int, Array]]:
    """Yield the number and the values [N, 5] of each symbol, as in its file."""
    whole = bars.with_unconfirmed_bars()
    for s in range(len(whole.symbols)):
        yield s, whole.bars_of_symbol(s)[1]


def parts(values: Array, rng: np.random.Generator) -> Iterator[Array]:
    """Yield copies of random windows without a large real move; callers change the middle row."""
    for start in rng.integers(0, len(values) - 2 * MARGIN, PLANTED).tolist():
        part = values[start : start + 2 * MARGIN].copy()
        if not find_unconfirmed_rows(part).any():
            yield part


def detection(panels: list[Bars]) -> None:
    """Print the share of real bars that are pending, and of planted errors that are rejected."""
    print("\nBars that are left out, and true bars lost with an error\n")
    row("planted", *NAMES)
    row("---", *["---"] * len(NAMES))
    cells = []
    for bars in panels:
        found = [find_unconfirmed_rows(values) for _, values in histories(bars)]
        count = sum(len(mask) for mask in found)
        cells.append(f"{sum(mask.sum() for mask in found)} of {count:,}")
    row("nothing: real bars that wait", *cells)
    for name, spoil in ERRORS.items():
        cells = []
        for bars in panels:
            rng = np.random.default_rng(0)
            hits = rows = others = plants = 0
            for _, values in histories(bars):
                for part in parts(values, rng):
                    wrong = spoil(part, MARGIN)
                    mask = find_unconfirmed_rows(part)
                    hits += int(mask[wrong].sum())
                    rows += wrong.stop - wrong.start
                    others += int(mask.sum() - mask[wrong].sum())
                    plants += 1
            cells.append(f"{hits / rows:.1%}, {others / plants:.2f}")
        row(name, *cells)


def squeezes(panels: list[Bars]) -> None:
    """Print the number of bars lost in squeezes of ten bars."""
    print(f"\nBars of {SQUEEZE} that a squeeze loses, mean and most\n")
    row("squeeze", *NAMES)
    row("---", *["---"] * len(NAMES))
    for name, back, gaps in (
        ("up and down, through the bar", True, False),
        ("up and down, overnight", True, True),
        ("one way, through the bar", False, False),
        ("one way, overnight", False, True),
    ):
        cells = []
        for bars in panels:
            rng = np.random.default_rng(0)
            lost = []
            for _, values in histories(bars):
                for part in parts(values, rng):
                    squeeze(part, rng, back=back, gaps=gaps)
                    lost.append(int(find_unconfirmed_rows(part).sum()))
            cells.append(f"{np.mean(lost):.2f}, {max(lost)}")
        row(name, *cells)


def squeeze(values: Array, rng: np.random.Generator, *, back: bool, gaps: bool) -> None:
    """Plant ten bars that each move 1.5 to 2.2 times, alternating or in one direction."""
    direction = rng.choice([-1.0, 1.0])
    price = values[MARGIN - 1, CLOSE]
    after = values[MARGIN + SQUEEZE - 1, CLOSE]
    for k in range(SQUEEZE):
        sign = direction * (-1.0) ** k if back else direction
        close = price * np.exp(sign * np.log(rng.uniform(1.5, 2.2)))
        bar = values[MARGIN + k]
        bar[OPEN], bar[CLOSE] = (close if gaps else price), close
        bar[HIGH], bar[LOW] = max(bar[OPEN], close), min(bar[OPEN], close)
        price = close
    values[MARGIN + SQUEEZE :, :VOLUME] *= price / after


def heavy_volumes(panels: list[Bars]) -> None:
    """Print the share of bars with heavy volume, which a rule of volume would accept as moves."""
    print(f"\nBars of more than {HEAVY:g} times the median volume of the 20 before\n")
    row(*NAMES)
    row(*["---"] * len(NAMES))
    cells = []
    for bars in panels:
        heavy = []
        for _, values in histories(bars):
            volume = values[:, VOLUME]
            windows = np.lib.stride_tricks.sliding_window_view(volume[:-1], 20)
            heavy.append(volume[20:] > HEAVY * np.median(windows, axis=1))
        cells.append(f"{np.concatenate(heavy).mean():.2%}")
    row(*cells)


def overnight(bars: Bars) -> list[Array]:
    """Return the log overnight moves [N] of each stock."""
    whole = bars.with_unconfirmed_bars()
    found = []
    for s, values in histories(bars):
        if bars.instruments[s].kind is AssetClass.STOCK:
            starts = whole.clock(AssetClass.STOCK).starts_by_end(whole.bars_of_symbol(s)[0])
            left_out = np.zeros(len(values), dtype=bool)
            found.append(compute_overnight_moves(starts, values, left_out).log_returns)
    return found


def splits(panels: list[Bars]) -> None:
    """Print how many true moves the rules flag, and the share of planted splits they find."""
    print("\nOvernight moves: true ones doubted (ratio, large), planted splits found\n")
    names = NAMES[:2]
    row("split", *names)
    row("---", *["---"] * len(names))
    series = [overnight(bars) for bars in panels[:2]]
    cells = []
    for found in series:
        doubts = np.sum([np.sum(classify_moves(moves)[1:], axis=1) for moves in found], axis=0)
        years = sum(len(moves) for moves in found) / 252
        cells.append(f"{doubts[0]} + {doubts[1]} in {years:.0f} stock-years")
    row("none", *cells)
    for ratio in (*RARE_SPLIT_RATIOS[::2], Fraction(2, 3), Fraction(7, 5), Fraction(8, 7)):
        cells = []
        for found in series:
            rng = np.random.default_rng(0)
            hits = []
            for moves in found:
                for place in rng.integers(0, len(moves), 20).tolist():
                    planted = moves.copy()
                    planted[place] -= np.log(float(ratio))
                    hits.append([mask[place] for mask in classify_moves(planted)[1:]])
            by_rule = np.mean(hits, axis=0)
            cells.append(f"{by_rule.sum():.0%}, of it by the ratio {by_rule[0]:.0%}")
        row(f"{ratio.numerator}:{ratio.denominator}", *cells)


def main(folders: list[str]) -> None:
    if len(folders) != len(NAMES):
        raise SystemExit(__doc__)
    panels = [load_bars(folder, accept_jumps=True) for folder in folders]
    detection(panels)
    squeezes(panels)
    heavy_volumes(panels)
    splits(panels)


if __name__ == "__main__":
    main(sys.argv[1:])
