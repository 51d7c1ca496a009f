# Runs after boot.py: hands the runtime to the coupler. Ctrl-C leaves the REPL to whoever is at the cable, unless the
# console is locked.
from coupler import app, hal

app.main(hal.get())
