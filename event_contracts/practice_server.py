"""A Kalshi to practise on, over simulated markets: its HTTP, synthetic or recorded.

    python -m event_contracts.practice_server --key-file KEY.pem [--folder DIR --markets TICKER …]
        [--speed wait|N] [--port 8001] [--capital 1000] [key=value …]

--key-file FILE      where the private key is written, PEM; it may not be there
--folder DIR         of recorded files; none: synthetic markets
--markets TICKER …   none: every market of the folder
--speed wait|N       wait for a client, or so many times as fast as a real clock
--host, --port       where it listens: 127.0.0.1 and 8001 unless others are named; 0: a free port
--capital N          USD, 1,000 unless another is named

Requests are signed as Kalshi wants it, with a throw-away key: its id is printed, the private key is
written to the file that --key-file names, for the user alone. With `--speed wait` the clock stands
until a client moves it (POST /control/advance, {"steps": 1}); with a number it runs that many times
as fast as a real one. Faults on demand: POST /control/faults, {"kind": …}; DELETE clears them.
POST /control/land does what a fault `late` holds up.
"""

from __future__ import annotations

from foundation.command import start

if __name__ == "__main__":
    start("event_contracts.practice_server")

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from event_contracts.simulation.app import KalshiServer, new_keys
from event_contracts.simulation.responses import written
from event_contracts.simulation.venue import KalshiVenueSettings, warm_up
from foundation.compose import composed_config
from foundation.errors import InputError
from foundation.files import check_file, staged_file
from foundation.flags import overrides_of_flags
from marketsimulator.venue.serving import Serving, ServingParser, serve


@dataclass(frozen=True, slots=True)
class Practice:
    """What is served, where, and the name of the file of the private key."""

    settings: KalshiVenueSettings
    key_file: str
    serving: Serving

    def prepared(self) -> tuple[KalshiServer, str]:
        """The server, and what it serves; its private key is in a file by then."""
        with _key_errors(self.key_file) as key_file:
            if key_file.exists():
                raise InputError(
                    f"--key-file: {key_file} is there already; name a new file, or remove it"
                )
            check_file(key_file, "--key-file")
        listings = self.settings.listings()
        warm_up()
        keys = new_keys()
        exchange = self.settings.exchange(listings, np.datetime64(time.time_ns(), "ns"))
        with _key_errors(self.key_file), staged_file(key_file) as part:
            part.write_text(keys.private_key, encoding="utf-8")
        server = KalshiServer(exchange, self.settings, keys, self.serving.speed)
        tickers = ", ".join(exchange.listings)
        key = f"key {keys.key_id}, its private half in {key_file}"
        return server, f"{tickers} from {written(exchange.now)}; {key}"


def read(words: Sequence[str]) -> tuple[Practice, None]:
    """The settings that flags and words name, and where the server listens."""
    parser = ServingParser("event_contracts.practice_server", port=8001)
    parser.add_argument("--key-file")
    parser.add_argument("--folder")
    parser.add_argument("--markets", nargs="+", default=[])
    parser.add_argument("--capital", type=float)
    arguments, serving = parser.read(words)
    # Asked for by argparse, it would not say first which flag is none.
    if arguments.key_file is None:
        parser.error("--key-file is missing; name a new file, --key-file KEY.pem")
    flags = {
        "folder": arguments.folder,
        "markets": arguments.markets,
        "starting_cash": arguments.capital,
    }
    config = composed_config("kalshi_venue", [*overrides_of_flags(flags), *arguments.overrides])
    return Practice(KalshiVenueSettings.of(config), arguments.key_file, serving), None


def run(settings: Practice) -> None:
    serve(settings.serving, settings.prepared)


@contextmanager
def _key_errors(word: str) -> Iterator[Path]:
    """The path of the private key, ~ being somebody's home; what the system says is one line."""
    try:
        yield Path(word).expanduser()
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"--key-file: {word} cannot be written: {why}") from error
