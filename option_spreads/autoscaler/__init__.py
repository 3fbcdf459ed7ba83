"""Contract counts of option spreads: the rules, and the account, history and notices they use."""
