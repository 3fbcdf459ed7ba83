"""What a practice venue of event contracts plays, and under which rules."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np
from omegaconf import DictConfig

from event_contracts.simulation.exchange import Listing
from event_contracts.simulation.recorded import RecordedMarket, recorded_markets
from event_contracts.simulation.sessions import tape_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import SyntheticMarket, synthetic_session
from event_contracts.trading.actions import LIFE
from event_contracts.trading.admission import PositionLimits
from event_contracts.trading.fees import KalshiFees
from foundation.configuration import settings_of
from foundation.errors import InputError, refuse_outside
from marketsimulator.settings import refuse_other_fees

EVENT = "SIM"  # of synthetic markets
_WITHOUT = PositionLimits(Decimal(10**9), Decimal(10**9), Decimal(1))


@dataclass(frozen=True, slots=True)
class KalshiVenueSettings:
    """A practice venue of event contracts: its markets, the account, the rules.

    folder: of recorded files, see `recorded`; none: synthetic markets.
    markets: tickers of the recorded markets that are played; none: all.
    synthetic: how many synthetic markets, SIM-1, SIM-2, …, are played, 1 … 200.
    seed: of the synthetic markets.
    market: parameters of the synthetic markets.
    interval: seconds between ticks, 1 … 86,400.
    starting_cash: USD, in whole cents, above 0, 1,000,000 at most.
    life: ticks after which a resting order ends, 1 … 1,000,000; as long as the environments' unless
        it is set. Kalshi's own orders wait until they are cancelled.
    limited: whether the venue holds orders to the buffer and the limits of the environments, and
        cancels what is about to break them. Kalshi itself does neither.
    settlement: ticks from the end of trading until a market is finalized and pays, 0 … 10,000. One
        before that it is determined; 0 does all at once.
    reused_ids_refused: whether an order is refused whose client_order_id has been used. Kalshi does
        not say what becomes of one.
    fees: rates and rounding by date; those of `as_of` hold.
    """

    folder: str | None = None
    markets: tuple[str, ...] = ()
    synthetic: int = 2
    seed: int = 0
    market: SyntheticMarket = field(default_factory=SyntheticMarket)
    interval: int = 60
    starting_cash: float = 1000.0
    life: int = LIFE
    limited: bool = False
    settlement: int = 0
    reused_ids_refused: bool = True
    fees: KalshiFees = field(default_factory=KalshiFees)

    def __post_init__(self) -> None:
        refuse_outside(
            self,
            synthetic=(1, 200),
            seed=(0, 2**62),
            interval=(1, 86_400),
            life=(1, 1e6),
            settlement=(0, 10_000),
        )
        if self.markets and self.folder is None:
            raise InputError("markets: tickers are of recorded markets; name their folder, too")
        self.episode()

    @classmethod
    def of(cls, config: DictConfig) -> KalshiVenueSettings:
        """The checked settings of a composed configuration."""
        refuse_other_fees(config, KalshiFees, "event contracts are traded for fees=kalshi")
        return settings_of(cls, config, lists=("markets",))

    def episode(self) -> EpisodeSettings:
        """Cash, fees and limits as the exchange has them."""
        own = EpisodeSettings(
            market=self.market, starting_cash=self.starting_cash, life=self.life, fees=self.fees
        )
        return own if self.limited else replace(own, limits=_WITHOUT, cash_buffer=0.0)

    def listings(self) -> list[Listing]:
        """The markets; recorded ones begin as far after the first as they did.

        Raises `InputError` for a folder without markets, or a ticker that is not in it; `DataError`
        for files that cannot be read.
        """
        if self.folder is None:
            return [self._synthetic(number) for number in range(self.synthetic)]
        step = np.timedelta64(self.interval, "s").astype("timedelta64[ns]")
        recorded = {each.market: each for each in recorded_markets(self.folder, step)}
        unknown = set(self.markets) - set(recorded)
        if unknown:
            raise InputError(f"markets: {self.folder} has no {sorted(unknown)[0]}")
        chosen = [recorded[name] for name in self.markets or recorded]
        begins = min(each.times[0] for each in chosen)
        return [_listing(each, int((each.times[0] - begins) / step)) for each in chosen]

    def _synthetic(self, number: int) -> Listing:
        tape = tape_of(synthetic_session((self.seed, number), self.market))
        return Listing(f"{EVENT}-{number + 1}", tape, event=EVENT)


def _listing(recorded: RecordedMarket, first: int) -> Listing:
    return Listing(recorded.market, tape_of(recorded.session), first, recorded.event)
