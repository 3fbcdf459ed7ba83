"""What an account's process writes down before and after it acts: one module a table."""
