"""Whether an account can be traded from here: a line for everything that it takes.

    python -m execution.doctor [symbols=[NVDA,BTCUSD]] [broker.url_override=URL] [key=value …]

It takes the settings of the loop. A line begins with `ok`, `warning` or `failure`, and says what to
do where it is not ok. It sends no order, and writes nothing but a probe that it removes. Exit code
0: nothing failed; 1: something did; 2: the settings cannot be used.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("execution.doctor", __doc__, settings="live", private=True)

import logging
import os
import sys
from dataclasses import replace

from execution.live.checks import Finding, Start, findings
from execution.live.settings import LiveSettings
from foundation.command import Parser, one_line_errors
from foundation.compose import composed_config
from foundation.errors import InputError
from trainingdata.feed.endpoint import Keys


def shown(finding: Finding, keys: Keys | InputError) -> str:
    """The line of a finding, without the keys."""
    found = keys.redact(finding.found) if isinstance(keys, Keys) else finding.found
    return str(replace(finding, found=found))


def _keys() -> Keys | InputError:
    try:
        return Keys.of(os.environ)
    except InputError as error:
        return error


def main() -> None:
    """Command line: Hydra overrides of configs/live.yaml."""
    parser = Parser()
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    parser.refuse_others(arguments.overrides)
    # What libraries would log is no finding, and a log file would be left behind.
    logging.getLogger().addHandler(logging.NullHandler())
    failed = False
    with one_line_errors("nothing was sent"):
        settings = LiveSettings.of(composed_config("live", arguments.overrides))
        keys = _keys()
        for finding in findings(Start(settings, keys)):
            failed |= finding.level == "failure"
            sys.stdout.write(f"{shown(finding, keys)}\n")
            sys.stdout.flush()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
