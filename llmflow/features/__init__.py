"""Turns to feature columns: the registry of definitions, and the numpy kernels behind them."""
