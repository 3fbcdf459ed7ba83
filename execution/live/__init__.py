"""Live loop of an account, and the operator's commands status, clear and kill."""
