"""Contract counts of option spreads: the sizing rules, and the account files that they read."""
