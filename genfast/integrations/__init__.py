"""Bridges to other libraries, one package each; nothing in genfast imports them."""
