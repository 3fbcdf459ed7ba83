"""Simulation of options: index paths, prices, years of selling spreads, the desk."""
