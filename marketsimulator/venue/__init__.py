"""The practice venue: Alpaca's interface on loopback, over the simulator."""
