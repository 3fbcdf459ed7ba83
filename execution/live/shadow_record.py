"""Record of the shadow account: the difference from the live account, by cause, day by day.

The job `shadow` writes it; the status page and the daily summary read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

from foundation.files import write_atomically

SHADOW_FILE = "shadow.json"
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class ShadowDay:
    """Profits of a live account and of its shadow over a period, USD to the cent.

    until: end of the period, as UTC text.
    live_profit, shadow_profit: change of equity less net deposits.
    terms: live less shadow profit by cause, in words; the terms add up to the difference.
    """

    until: str
    live_profit: Decimal
    shadow_profit: Decimal
    terms: Mapping[str, Decimal]

    @property
    def difference(self) -> Decimal:
        """Live profit less shadow profit, USD."""
        return self.live_profit - self.shadow_profit

    def since(self, before: ShadowDay) -> ShadowDay:
        """Return the part of this period, which has the same start, after `before` ended."""
        terms = {
            name: self.terms.get(name, _ZERO) - before.terms.get(name, _ZERO)
            for name in dict.fromkeys([*self.terms, *before.terms])
        }
        return ShadowDay(
            self.until,
            self.live_profit - before.live_profit,
            self.shadow_profit - before.shadow_profit,
            {name: usd for name, usd in terms.items() if usd},
        )

    @property
    def causes(self) -> str:
        """The terms as text, USD; "none" without a difference."""
        return "; ".join(f"{name} {usd:+,.2f}" for name, usd in self.terms.items()) or "none"


def read_shadow_days(folder: Path) -> list[ShadowDay]:
    """Return the days of an account's shadow, oldest first; empty before the first measurement.

    folder: folder of the account's journal.
    """
    totals = _read_totals(folder)
    return [total.since(before) for before, total in zip([_NOTHING, *totals], totals, strict=False)]


def append_shadow_total(folder: Path, total: ShadowDay) -> None:
    """Append a measurement that covers the whole journal; it replaces one of the same end."""
    kept = [each for each in _read_totals(folder) if each.until < total.until]
    content = json.dumps([*map(asdict, kept), asdict(total)], default=str)
    write_atomically(folder / SHADOW_FILE, content.encode(), is_private=True)


_NOTHING = ShadowDay("", _ZERO, _ZERO, {})


def _read_totals(folder: Path) -> list[ShadowDay]:
    try:
        rows = json.loads((folder / SHADOW_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [
        ShadowDay(
            row["until"],
            Decimal(row["live_profit"]),
            Decimal(row["shadow_profit"]),
            {name: Decimal(usd) for name, usd in row["terms"].items()},
        )
        for row in rows
    ]
