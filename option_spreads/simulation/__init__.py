"""Simulation of options: index paths, prices, backtests of spreads, and a simulated desk."""
