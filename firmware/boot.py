# Runs first, also before a technician's soft reset into the REPL: so it only repairs what a power cut or a damaged
# flash may have left of the identity, and starts nothing. Unless the console is locked (coupler/trust/lock.py): then it
# runs the coupler itself and never ends, for when it ends there is a REPL. Of the ESP32's port alone.
import micropython

micropython.kbd_intr(-1)  # before all else: Ctrl-C is a byte, until it is known whether the console is locked
import time  # noqa: E402

_typed = False
try:
    for _ in (0, 1):  # one that came before that line is raised at the first jump, which is here
        time.ticks_ms()
except KeyboardInterrupt:
    _typed = True
import esp32  # noqa: E402

_state = bytearray(8)
try:
    esp32.NVS("kobler").get_blob("console", _state)  # no other file is needed to tell
except OSError:
    pass  # it was never locked
_locked = _state[0] == 1


def _repair():
    from coupler import hal
    from coupler.trust import switch

    try:
        found = switch.recover(hal.get())
        if found in ("restored", "damaged"):
            print("kobler: identity", found)
    except Exception as error:  # noqa: BLE001 - main.py does not run after an error here, and the bus is to be read
        print("kobler: the identity could not be checked:", error)
    hal.get().forget("coupler.trust.switch", "coupler.trust.vault")
    hal.get().forget("coupler.store.snapshot", "coupler.store.layout", "coupler.store.files")


if _locked:
    try:
        _repair()
        import main  # noqa: F401
    except BaseException as error:  # noqa: BLE001 - whatever it is, it must not end in the REPL
        print("kobler: the firmware does not start: %s: %s; flash it again" % (type(error).__name__, error))
    import machine

    time.sleep(60)  # not sooner, so that a unit that cannot start does not wear out its flash
    machine.reset()
micropython.kbd_intr(3)
if _typed:
    raise KeyboardInterrupt
_repair()
