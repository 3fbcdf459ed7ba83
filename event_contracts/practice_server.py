"""The practice Kalshi under its earlier name; it is now `python -m practice.kalshi_server`."""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("practice.kalshi_server")
