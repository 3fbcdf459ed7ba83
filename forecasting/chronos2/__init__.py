"""Chronos-2: its network, weights and batches, and its forecaster."""
