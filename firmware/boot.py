# Runs first, also before a technician's soft reset into the REPL: so it only repairs what a power cut may have
# left half done in the identity, and starts nothing.
from coupler import hal
from coupler.trust import switch

switch.recover(hal.get())
del switch
hal.get().forget("coupler.trust.switch")
