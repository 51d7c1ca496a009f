# Freezes the coupler into a custom MicroPython build:
#   make -C ports/esp32 BOARD=... FROZEN_MANIFEST=/path/to/firmware/manifest.py
# The same modules as on the file system, at the same level of optimization. The port runs a frozen boot.py and main.py
# rather than files of that name; a folder coupler/ on the file system would be imported before the frozen one.
# /board.json stays a file: it is the board's, not ours.
import os

include("$(PORT_DIR)/boards/manifest.py")  # noqa: F821

# The other runtimes' halves of hal are never imported on a chip with MicroPython.
_foreign = (os.path.join("hal", "cpython"), os.path.join("hal", "circuitpython"))
_modules = [
    os.path.relpath(os.path.join(folder, name), "coupler")
    for folder, _, names in os.walk("coupler")
    for name in names
    if name.endswith(".py")
]
_modules = [name for name in _modules if not name.startswith(_foreign)]

package("coupler", files=sorted(_modules), opt=2)  # noqa: F821
module("boot.py", opt=2)  # noqa: F821
module("main.py", opt=2)  # noqa: F821
