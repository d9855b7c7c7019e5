"""Sampling: one loop along a plan, and what is built on it."""
