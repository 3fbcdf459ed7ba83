r"""Size of the next option spread: half-Kelly on the last closed trades, by account balance.

    .venv/bin/python examples/make_trades.py outputs/example-trades.csv
    .venv/bin/python examples/spread_contracts.py outputs/example-trades.csv

The first command writes trades with a small mean profit. The second table shows the contracts if
every trade had earned 20 USD more. The last 50 trades count; the other rules are in
configs/contracts/rules.yaml. `option_spreads.contracts` sizes spreads for an account.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import pandas as pd

from option_spreads.autoscaler.account import AccountState
from option_spreads.autoscaler.contract_sizing import ContractSizing
from option_spreads.contracts import get_max_risk_for_strategy, load_autoscaling_settings

BALANCES = (9_000, 12_000, 25_000, 50_000, 100_000)  # USD
CREDITS = {"PUT": 2.50, "IRON_CONDOR": 2.70, "OTM_SINGLE_SIDED": 1.00}  # points


def contracts(results: list[Fraction]) -> pd.DataFrame:
    """Return the contracts by strategy and balance; results: USD per contract, oldest first."""
    settings = load_autoscaling_settings("MAX_CONTRACTS=10")
    sizes = {}
    for balance in BALANCES:
        state = AccountState(Fraction(balance), tuple(results))
        risks = {name: get_max_risk_for_strategy(name, credit) for name, credit in CREDITS.items()}
        sizes[f"${balance:,}"] = {
            f"{name}, risk ${risk:,.0f}": ContractSizing.from_account_state(
                state, risk, settings
            ).contract_count.contracts
            for name, risk in risks.items()
        }
    return pd.DataFrame(sizes)


def main(trades: Path) -> None:
    """Print both tables."""
    results = [Fraction(cell) for cell in pd.read_csv(trades, dtype=str)["P/L_$"]]
    for more in (0, 20):
        mean = float(sum(results) / len(results)) + more
        print(f"Mean profit ${mean:,.2f} a contract\n{contracts([r + more for r in results])}\n")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
