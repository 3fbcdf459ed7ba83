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

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from event_contracts.simulation.answers import written
from event_contracts.simulation.app import KalshiServer, new_keys
from event_contracts.simulation.venue import KalshiVenueSettings, rehearse
from event_contracts.trading.endpoint import KalshiKeys
from foundation.compose import composed_config
from foundation.errors import InputError
from foundation.files import check_file, staged_file
from foundation.flags import Parser, overrides_of_flags, refuse_both
from foundation.registry import command_of
from marketsimulator.venue.door import serve as listen
from marketsimulator.venue.serving import Serving, add_serving_flags


def serve(settings: KalshiVenueSettings, key_word: str, serving: Serving) -> None:
    """Serve until interrupted.

    key_word: the path of the private key's file, which is written; it may not be there.

    Raises `InputError` for settings, data, a file or an address that cannot be used.
    """
    with _key_errors(key_word) as key_file:
        if key_file.exists():
            raise InputError(
                f"--key-file: {key_file} is there already; name a new file, or remove it"
            )
        check_file(key_file, "--key-file")
    serving.refuse_taken()
    listings = settings.listings()
    rehearse()
    keys = new_keys()
    exchange = settings.exchange(listings, np.datetime64(time.time_ns(), "ns"))
    server = KalshiServer(exchange, settings, keys, serving.speed)
    listener = serving.listener()
    with _key_errors(key_word):
        _write_key(key_file, keys)
    tickers = ", ".join(exchange.listings)
    sys.stdout.write(
        f"{serving.url_of(listener)}: {tickers} from {written(exchange.now)}; key {keys.key_id},"
        f" its private half in {key_file}\n"
    )
    # A process that starts the server waits for this line.
    sys.stdout.flush()
    listen(server.app(), listener, serving.host)


@dataclass(frozen=True, slots=True)
class Practice:
    """What is served, where, and the name of the file of the private key."""

    settings: KalshiVenueSettings
    key_file: str
    serving: Serving


def read(words: Sequence[str]) -> tuple[Practice, None]:
    """The settings that flags and words name, and where the server listens."""
    parser = Parser(settings=True)
    parser.add_argument("--key-file")
    parser.add_argument("--folder")
    parser.add_argument("--markets", nargs="+", default=[])
    add_serving_flags(parser, port=8001)
    parser.add_argument("--capital", type=float)
    arguments = parser.parse_intermixed_args(list(words))
    parser.refuse_others(arguments.overrides)
    # Asked for by argparse, it would not say first which flag is none.
    if arguments.key_file is None:
        parser.error("--key-file is missing; name a new file, --key-file KEY.pem")
    refuse_both(command_of("event_contracts.practice_server").flags, words)
    flags = {
        "folder": arguments.folder,
        "markets": arguments.markets,
        "starting_cash": arguments.capital,
    }
    config = composed_config("kalshi_venue", [*overrides_of_flags(flags), *arguments.overrides])
    serving = Serving.of(arguments)
    return Practice(KalshiVenueSettings.of(config), arguments.key_file, serving), None


def run(settings: Practice) -> None:
    """Serve until interrupted."""
    serve(settings.settings, settings.key_file, settings.serving)


@contextmanager
def _key_errors(word: str) -> Iterator[Path]:
    """The path of the private key, ~ being somebody's home; what the system says is one line."""
    try:
        yield Path(word).expanduser()
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"--key-file: {word} cannot be written: {why}") from error


def _write_key(path: Path, keys: KalshiKeys) -> None:
    """Write the private key, readable by the user alone from the first byte on."""
    with staged_file(path) as part:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(keys.private_key)
