"""Forecasts by Chronos-2: checkpoint, network, engine, cache and forecaster."""
