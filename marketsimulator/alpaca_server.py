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

from foundation.command import start

if __name__ == "__main__":
    start("marketsimulator.alpaca_server")

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from foundation.compose import composed_config
from foundation.flags import Parser, overrides_of_flags, refuse_both
from foundation.registry import command_of, registered_module
from marketsimulator.settings import VenueSettings
from marketsimulator.venue.app import Server
from marketsimulator.venue.door import serve as listen
from marketsimulator.venue.rehearsal import rehearse
from marketsimulator.venue.serving import Serving, add_serving_flags
from marketsimulator.venue.stocks import Venue
from marketsimulator.venue.tickets import timestamp


@dataclass(frozen=True, slots=True)
class Practice:
    """What is served, and where."""

    settings: VenueSettings
    serving: Serving


def serve(settings: VenueSettings, serving: Serving) -> None:
    """Serve until interrupted.

    Raises
    ------
    InputError
        for settings, data or an address that cannot be used.
    """
    serving.refuse_taken()
    bars, first = settings.panel()
    rehearse(settings, bars, first)
    server = Server(Venue(settings, bars, first), serving.speed)
    listener = serving.listener()
    symbols = ", ".join(bars.symbols)
    sys.stdout.write(f"{serving.url_of(listener)}: {symbols} from {timestamp(bars.times[first])}\n")
    # A process that starts the server waits for this line.
    sys.stdout.flush()
    listen(server.app(), listener, serving.host)


def read(words: Sequence[str]) -> tuple[Practice, None]:
    """The settings that flags and words name, and where the server listens."""
    parser = Parser(settings=True)
    parser.add_argument("--data-dir", nargs="+", default=[])
    parser.add_argument("--symbols", nargs="+", default=[])
    parser.add_argument("--start")
    parser.add_argument("--end")
    add_serving_flags(parser, port=8000)
    parser.add_argument("--capital", type=float)
    arguments = parser.parse_intermixed_args(list(words))
    parser.refuse_others(arguments.overrides)
    refuse_both(command_of("marketsimulator.alpaca_server").flags, words)
    flags = {key: getattr(arguments, key) for key in ("start", "end", "capital", "symbols")}
    overrides = overrides_of_flags({**flags, "data.dir": arguments.data_dir})
    config = composed_config("venue", [*overrides, "trials=null", *arguments.overrides])
    practice = registered_module("DESKS", "options")
    return Practice(practice.PracticeSettings.of(config), Serving.of(arguments)), None


def run(settings: Practice) -> None:
    """Serve until interrupted."""
    serve(settings.settings, settings.serving)
