"""A simulated account: its book, its fills, and the broker's charges and margin rules."""
