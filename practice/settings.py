"""Settings of the practice servers of Alpaca and of Kalshi."""

from __future__ import annotations

from omegaconf import DictConfig

from event_contracts.simulation.settings import EpisodeSettings, SyntheticSessionModel
from event_contracts.trading.actions import DEFAULT_ORDER_TICKS, NO_POSITION_LIMITS
from event_contracts.trading.fees import KalshiFees
from foundation.errors import InputError
from foundation.settings import setting, settings_class, settings_from_config
from marketsimulator.settings import BacktestSettings
from option_spreads.simulation.pricing import Smile


@settings_class("options")
class OptionTerms:
    """Settings of the options on Alpaca's practice server, and of their quotes."""

    vix: str | None = setting(None, "daily file of the volatility index; null: no options")
    symbols: tuple[str, ...] = setting(("SPY",), "underlying stocks of the options")
    slippage: float = setting(
        0.05, "points between the mid price and the quote of a leg", ge=0, le=1e3
    )
    smile: Smile = setting(Smile(), "implied volatility by strike")


@settings_class()
class PracticeSettings(BacktestSettings):
    """Settings of Alpaca's practice server: bars, costs and margin of a backtest, and options."""

    options: OptionTerms = setting(OptionTerms(), "options on the venue's stocks")


@settings_class()
class KalshiVenueSettings:
    """Settings of a practice venue of event contracts: its markets, the account, the rules."""

    folder: str | None = setting(
        None, "folder of `event_contracts.simulation.recorded` files; null: synthetic markets"
    )
    markets: tuple[str, ...] = setting(
        (), "tickers of the recorded markets that are served; empty: all"
    )
    synthetic: int = setting(
        2, "how many synthetic markets, SIM-1, SIM-2, …, are played", ge=1, le=200
    )
    seed: int = setting(0, "seed of the synthetic markets", ge=0, le=2**62)
    market: SyntheticSessionModel = setting(
        SyntheticSessionModel(), "model of the synthetic markets"
    )
    interval: int = setting(60, "seconds between ticks", ge=1, le=86_400)
    starting_cash: float = setting(1000.0, "cash of the account at the start, USD in whole cents")
    life: int = setting(
        DEFAULT_ORDER_TICKS,
        "ticks until a resting order expires; at Kalshi orders rest until cancelled",
        ge=1,
        le=1_000_000,
    )
    settlement_ticks: int = setting(
        0, "ticks between the end of trading and the payout", ge=0, le=10_000
    )
    reused_ids_refused: bool = setting(
        True,
        "whether an order with a used client_order_id is refused; Kalshi does not document it",
        key=False,
    )
    fees: KalshiFees = setting(
        KalshiFees(), "fee rates and rounding by date; those of `as_of` apply"
    )
    estimates: str | None = setting(
        None,
        "file to which every tick writes the markets' fair prices, for `estimates` of "
        "`event_contracts.trade`; null: no file",
    )

    def __post_init__(self) -> None:
        if self.markets and self.folder is None:
            raise InputError(
                "markets: selects recorded markets, but folder is not set; set folder to recordings"
            )
        self.episode_settings()

    @classmethod
    def from_config(cls, config: DictConfig) -> KalshiVenueSettings:
        return settings_from_config(cls, config)

    def episode_settings(self) -> EpisodeSettings:
        """Return the settings of the simulated exchange: no cash buffer and no position limits."""
        return EpisodeSettings(
            market=self.market,
            starting_cash=self.starting_cash,
            life=self.life,
            fees=self.fees,
            limits=NO_POSITION_LIMITS,
            cash_buffer=0.0,
        )
