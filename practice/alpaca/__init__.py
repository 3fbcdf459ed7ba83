"""Alpaca's practice account: stocks, crypto and options at given bars."""
