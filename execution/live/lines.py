"""Lines that a loop prints beside its log; a reader who has gone ends nothing."""

from __future__ import annotations

import logging
import sys

from foundation.command import printing

log = logging.getLogger("live")


def print_line(line: str) -> None:
    with printing():
        sys.stdout.write(f"{line}\n")


def print_warning(line: str, level: int = logging.WARNING) -> None:
    """Log a line, and print it on standard error; level: that it is logged at."""
    log.log(level, line)
    with printing():
        sys.stderr.write(f"{line}\n")
