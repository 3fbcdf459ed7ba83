"""The live loop of an account, and what an operator asks of it: status, clear, kill."""
