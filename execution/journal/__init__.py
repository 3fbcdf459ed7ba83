"""The journal of an account: records before and after each action, one module a table."""
