"""Journal of an account: records written before and after each action, one module per table."""
