"""The store behind esp32.NVS: power may fail at any flash operation. The overlay's own file, run on CPython."""

import importlib
import struct
import sys
from pathlib import Path

import pytest
from kobler.sim import guest
from kobler.sim import link as messages
from kobler.sim.flash import Flash, PowerCut

_STEPS: list[dict[str, int | None]] = [
    {f"key{i % 5}": i * 1000, **({"key3": None} if i % 7 == 6 else {})} for i in range(1, 80)
]


@pytest.fixture
def nvs(tmp_path, monkeypatch):
    """(flash, a function that opens the store as after a reset)"""
    flash = Flash(tmp_path / "nvs.bin", 8 * 4096)
    monkeypatch.setenv("KOBLER_FLASH", str(tmp_path / "nvs.bin"))
    monkeypatch.setenv("KOBLER_PARTITIONS", "nvs,1,2,4096,8192")
    monkeypatch.syspath_prepend(str(Path(guest.__file__).parent / "overlay"))
    names = ("_chip", "_flash", "_nvs")
    before = {name: sys.modules.pop(name, None) for name in names}
    chip, _, store = (importlib.import_module(name) for name in names)

    def call(kind, payload):
        if kind == messages.FLASH_PROGRAM:
            flash.program(int.from_bytes(payload[:4], "little"), payload[4:])
        else:
            flash.erase(*struct.unpack("<II", payload))
        return b"\0"

    chip.call = call
    yield flash, store.Store
    flash.close()
    for name in names:
        sys.modules.pop(name, None)
        if before[name] is not None:
            sys.modules[name] = before[name]


def _apply(store, step):
    for key, value in step.items():
        if value is None:
            store.erase(0x69, key.encode())
        else:
            store.set(0x69, key.encode(), value.to_bytes(100, "little"))
    store.commit()


def _values(store):
    names = {f"key{i}" for i in range(5)}
    read = {name: store.get(0x69, name.encode()) for name in names}
    return {name: int.from_bytes(value, "little") for name, value in read.items() if value is not None}


def test_nvs_survives_a_power_cut_at_every_flash_operation(nvs):
    flash, open_store = nvs
    states: list[dict[str, int]] = [{}]
    for step in _STEPS:
        state = {**states[-1], **{key: value for key, value in step.items() if value is not None}}
        states.append({key: value for key, value in state.items() if step.get(key, 0) is not None})
    store = open_store()
    for step in _STEPS:
        _apply(store, step)
    assert _values(open_store()) == states[-1]
    total = flash.operations
    assert total > 100  # several times round both banks
    for within in (0, 5):
        for cut in range(total):
            flash.erase(4096, 8192)
            store = open_store()
            flash.cut_after(cut, within)
            done = 0
            with pytest.raises(PowerCut):
                for step in _STEPS:
                    _apply(store, step)
                    done += 1
            flash.power(True)
            store = open_store()
            found = _values(store)
            old, new = states[done], states[done + 1]
            for key in old.keys() | new.keys() | found.keys():
                assert found.get(key) in (old.get(key), new.get(key)), (cut, within, key)
            _apply(store, {"key0": 77, "key4": 78})
            found = _values(open_store())
            assert found["key0"] == 77 and found["key4"] == 78
