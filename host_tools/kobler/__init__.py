"""Kobler's host tools: build, flash, provision, watch and simulate a coupler."""

__version__ = "0.1.0"
