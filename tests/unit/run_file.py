"""Run every test_* function of one file on whatever interpreter this is; a JSON line for each.

usage: run_file.py FIRMWARE_DIR TESTS_DIR MODULE
"""

import json
import sys

try:
    import io

    _print_exception = sys.print_exception
except AttributeError:
    try:
        import traceback
    except ImportError:  # CircuitPython on a computer
        traceback = None

    def _print_exception(error, out):
        if traceback:
            traceback.print_exception(error, file=out)
        else:
            out.write(repr(error))


def _report(name, error):
    text = ""
    if error is not None:
        out = io.StringIO()
        _print_exception(error, out)
        text = out.getvalue()
    print("\n@@" + json.dumps({"test": name, "error": text}))


def main(firmware, tests, module_name):
    sys.path.insert(0, tests)
    sys.path.insert(0, firmware)
    module = __import__(module_name)
    for name in dir(module):
        if name.startswith("test_"):
            try:
                getattr(module, name)()
            except Exception as error:  # noqa: BLE001 - a test may fail in any way, and is reported
                _report(name, error)
            else:
                _report(name, None)


main(*sys.argv[1:4])
