"""Guidance: towards a condition, or towards a measurement."""
