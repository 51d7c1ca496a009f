# Runs first, also before a technician's soft reset into the REPL: so it only repairs what a power cut or a damaged
# flash may have left of the identity, and starts nothing.
from coupler import hal
from coupler.trust import switch

try:
    found = switch.recover(hal.get())
    if found in ("restored", "damaged"):
        print("kobler: identity", found)
except Exception as error:  # noqa: BLE001 - main.py does not run after an error here, and the bus is to be read
    print("kobler: the identity could not be checked:", error)
del switch
hal.get().forget("coupler.trust.switch", "coupler.trust.vault")
hal.get().forget("coupler.store.snapshot", "coupler.store.layout", "coupler.store.files")
