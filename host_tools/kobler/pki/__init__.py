"""The local certificate authority: signs the units' certificates, the broker's and other clients'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .authority import Authority, Issued

__all__ = ["Authority", "Issued"]


def __getattr__(name: str) -> Any:
    # `kobler --help` must not wait for cryptography.
    if name in __all__:
        from . import authority

        return getattr(authority, name)
    raise AttributeError(name)
