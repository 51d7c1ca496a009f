# Runs after boot.py: hands the runtime to the coupler. Ctrl-C leaves the REPL to whoever is at the cable.
from coupler import app, hal

app.main(hal.get())
