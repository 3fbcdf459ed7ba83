"""A simulated account: its book, its fills and what the broker charges and forbids."""
