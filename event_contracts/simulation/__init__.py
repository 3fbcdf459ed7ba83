"""Simulation of event contracts: sessions, exchange, environments, reinforcement learning."""
