"""The practice venue: Alpaca's API, served locally by the simulator."""
