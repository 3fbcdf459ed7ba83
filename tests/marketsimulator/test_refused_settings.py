"""What is refused of a backtest's settings, and of a batch job's, and in which words."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from event_contracts.trading.fees import KalshiFees
from forecasting.batch import BatchSettings
from foundation.compose import composed_config
from foundation.errors import InputError
from marketsimulator.settings import BacktestSettings, refuse_other_fees

STOCK_KEYS = (
    "sec_per_dollar, taf_per_share, cat_per_share, crypto_tiers, commission_bps,"
    " commission_per_share"
)


@pytest.mark.parametrize(
    ("fees", "says"),
    [
        ({"nope": 1}, f"fees.nope: there is no such setting; here are {STOCK_KEYS}"),
        ({"comission_bps": 1}, "fees.comission_bps: there is no such setting; did you mean fees.c"),
        ({"commission_bps": 5, "taker": 1}, "fees.taker: there is no such setting; here are"),
        ({"taker": 1, "nope": 1}, "fees: those named here are another venue's; stocks and coins"),
    ],
)
def test_fees_are_anothers_only_where_their_keys_are(fees: dict[str, int], says: str) -> None:
    config = OmegaConf.create({"fees": fees})
    with pytest.raises(InputError) as refused:
        BacktestSettings.of(config)
    assert str(refused.value).startswith(says)


def test_event_contracts_have_other_fees_than_stocks() -> None:
    with pytest.raises(InputError, match=r"another venue's; write fees=kalshi"):
        refuse_other_fees(composed_config("backtest", []), KalshiFees, "write fees=kalshi")
    refuse_other_fees(OmegaConf.create({"fees": {"nope": 1}}), KalshiFees, "")


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=-1"], "seed: -1 is below 0"),
        (["data.seed=9223372036854775808"], "data.seed: 9223372036854775808 is not below"),
        (["symbols=[ACME,ZINC,ACME]"], "symbols: ACME stands twice; leave one of them"),
        (["symbols=[BTCUSD,BTC/USD]"], "symbols: BTCUSD stands twice"),
        (["symbols=[NVDA]"], "symbols: the synthetic market has no NVDA"),
        (["symbols=[a b]"], "symbols: 'a b' is neither a stock"),
        (["limits.symbol_cap=much"], "limits.symbol_cap: 'much' is no number"),
        (["capital=nan"], "capital: "),
        (["start=2024-03-09", "end=2024-03-01"], "start: 2024-03-09 is after end 2024-03-01"),
        (["start=2030-01-01", "end=2030-02-01"], "start, end: the synthetic market runs from"),
        (["start=2024-03-04", "days=5"], "days: give either"),
        (["forecaster.augmentation=square"], "forecaster.augmentation: "),
        (["data.dir=/nowhere"], "data.dir: /nowhere is no folder"),
        (["forecaster.per_symbol=nowhere"], "forecaster.per_symbol: nowhere is no folder"),
        (["forecaster.compile=maybe"], "forecaster.compile: 'maybe' is none of auto, true, false"),
        (["margin.interest_rates=[{since: x, rate: 0}]"], "margin.interest_rates.0: 'x' is no"),
        (["margin.borrow_rates=[{symbol: A, rate: 30}]"], "margin.borrow_rates.0.rate: 30 is not"),
        (["margin.requirements=[{symbol: a b, rate: 1}]"], "margin.requirements.0: 'a b' is"),
        (["seed=${nosuch}"], "seed: Interpolation key 'nosuch' not found"),
        (["placebo=true", "data.edge=0"], "placebo: "),
        (["placebo=true", "data.dir=/nowhere"], "placebo: "),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_that_begins_with_its_key(
    words: list[str], says: str
) -> None:
    with pytest.raises(InputError) as refused:
        BacktestSettings.of(composed_config("backtest", words)).bars()
    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)


def test_the_seeds_and_symbols_that_there_are_fit() -> None:
    words = ["seed=9223372036854775807", "symbols=[ACME,ZINC]"]
    assert BacktestSettings.of(composed_config("backtest", words)).symbols == ("ACME", "ZINC")


def test_a_shape_without_an_output_is_refused() -> None:
    with pytest.raises(InputError, match=r"^shape: wide has no effect without output; name"):
        BatchSettings.of(composed_config("batch", ["shape=wide"]))
    words = ["shape=wide", "output=f.parquet"]
    assert BatchSettings.of(composed_config("batch", words)).shape == "wide"
    assert BatchSettings.of(composed_config("batch", ["shape=long"])).output is None
