"""Provisioning over the unit's serial port: it makes a key, the authority certifies it, it switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .steps import Provisioned, provision

__all__ = ["Provisioned", "provision"]


def __getattr__(name: str) -> Any:
    # `kobler --help` must not wait for mpremote and cryptography.
    if name in __all__:
        from . import steps

        return getattr(steps, name)
    raise AttributeError(name)
