"""An Alpaca to practise on, over the simulator: its HTTP, on given or synthetic bars.

    python -m marketsimulator.alpaca_server --data-dir DIR … --symbols NVDA BTCUSD
        --start 2024-10-01 [--end D] [--speed wait|N] [--port 8000] [--capital 100000]
        [options.vix=VIX.parquet] [key=value …]

--data-dir DIR …     folders of bar files; none: synthetic bars
--symbols SYMBOL …   none: every symbol the data holds
--start, --end       New York dates, inclusive, or instants with a zone
--speed wait|N       wait for a client, or so many times as fast as a real clock
--host, --port       where it listens: 127.0.0.1 and 8000 unless others are named; 0: a free port
--capital N          USD, 100,000 unless another is named

The real `alpaca-py` clients work against it with `url_override=http://127.0.0.1:8000`. With
`--speed wait` its clock stands until a client moves it (POST /control/advance); with a number it
runs that many times as fast as a real one. Faults on demand: POST /control/faults.
"""

from __future__ import annotations

from foundation.cli import start

if __name__ == "__main__":
    start("marketsimulator.alpaca_server")

from collections.abc import Sequence
from dataclasses import dataclass

from foundation.compose import classes_of, composed_config, overrides_of_flags
from marketsimulator.settings import VenueSettings
from marketsimulator.venue.alpaca import AlpacaServer, warm_up
from marketsimulator.venue.serving import Serving, ServingParser, serve
from marketsimulator.venue.stocks import Venue
from marketsimulator.venue.tickets import timestamp


@dataclass(frozen=True, slots=True)
class Practice:
    """What is served, and where."""

    settings: VenueSettings
    serving: Serving

    def prepared(self) -> tuple[AlpacaServer, str]:
        """The server, and what it serves."""
        market = self.settings.market()
        warm_up(self.settings, market)
        server = AlpacaServer(Venue(self.settings, market), self.serving.speed)
        return server, f"{', '.join(market.bars.symbols)} from {timestamp(market.history.now)}"


def read(words: Sequence[str]) -> tuple[Practice, None]:
    """The settings that flags and words name, and where the server listens."""
    parser = ServingParser("marketsimulator.alpaca_server", port=8000)
    parser.add_argument("--data-dir", nargs="+", default=[])
    parser.add_argument("--symbols", nargs="+", default=[])
    parser.add_argument("--start")
    parser.add_argument("--end")
    parser.add_argument("--capital", type=float)
    arguments, serving = parser.read(words)
    flags = {key: getattr(arguments, key) for key in ("start", "end", "capital", "symbols")}
    overrides = overrides_of_flags({**flags, "data.dir": arguments.data_dir})
    config = composed_config("venue", [*overrides, "trials=null", *arguments.overrides])
    return Practice(classes_of("venue")[0].of(config), serving), None


def run(settings: Practice) -> None:
    serve(settings.serving, settings.prepared)
