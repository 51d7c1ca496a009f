"""What is burnt into a chip rather than stored in its flash: kept in a small JSON file beside the image."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kobler.errors import KoblerError
from kobler.sim.rom_chips import chip_named


class Identity(BaseModel):
    """`mac` is 12 hexadecimal digits; `flash_size` bytes."""

    model_config = ConfigDict(extra="forbid")

    chip: str
    flash_size: int = Field(ge=1 << 20, le=32 << 20)
    mac: str = Field(pattern="^[0-9a-f]{12}$")

    @property
    def mac_bytes(self) -> bytes:
        return bytes.fromhex(self.mac)


def beside(image: Path) -> Path:
    return image.with_name(image.name + ".json")


def load(image: Path) -> Identity | None:
    """The identity kept beside the image, or None when there is none yet."""
    path = beside(image)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KoblerError(f"{path}: {error.strerror}; make it readable") from error
    try:
        identity = Identity.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise KoblerError(f"{path}: {field}: {first['msg']}; correct or delete it") from None
    chip_named(identity.chip)
    return identity


def open_or_create(image: Path, chip: str, flash_size: int, mac: bytes | None = None) -> Identity:
    """The image's identity; a new image gets a random, locally administered MAC unless `mac` is given."""
    have = load(image)
    if have is not None:
        for what, its, wanted in (("chip", have.chip, chip), ("flash size", have.flash_size, flash_size)):
            if its != wanted:
                raise KoblerError(
                    f"{image} belongs to a board with {what} {its}, not {wanted}; choose that board or another image"
                )
        if mac is None or mac == have.mac_bytes:
            return have
    chip_named(chip)
    identity = Identity(chip=chip, flash_size=flash_size, mac=(mac or random_mac()).hex())
    new = beside(image).with_suffix(".new")
    try:
        new.write_text(json.dumps(identity.model_dump()) + "\n")
        new.replace(beside(image))
    except OSError as error:
        raise KoblerError(f"{beside(image)}: {error.strerror}; name a folder that can be written") from error
    return identity


def random_mac() -> bytes:
    mac = bytearray(secrets.token_bytes(6))
    mac[0] = mac[0] & 0xFC | 0x02
    return bytes(mac)
