"""The practice Alpaca under its earlier name; it is now `python -m practice.alpaca_server`."""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("practice.alpaca_server")
