"""Chronos-2: its network, weights and batches, and the forecaster made of them."""
