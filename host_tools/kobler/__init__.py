"""Kobler's host tools: build, flash, provision, watch and simulate a coupler."""

import datetime as dt

__version__ = "0.1.0"
RELEASED = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)  # as the firmware's RELEASED_MS: no clock is right that shows less
