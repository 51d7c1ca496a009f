VERSION = "0.1.0"
RELEASED_MS = 1793491200000  # 2026-11-01, set with VERSION at each release: no clock is right that shows less
