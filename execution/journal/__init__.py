"""Journal of an account: records before and after each action, one module per table."""
