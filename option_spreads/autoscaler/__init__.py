"""How many option spreads: the rules, and the account, history and notices they read."""
