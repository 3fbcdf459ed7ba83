"""How it is done: orders, the trader's decision, brokers."""
