"""The decision: beliefs, the sizing problem, its solution, and the orders that follow."""
