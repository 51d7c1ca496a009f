"""What a build leaves behind: the files for flash, and a manifest that says what each of them is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import KoblerError
from .files import write_atomic

MANIFEST = "manifest.json"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Region(_Model):
    """A file and the flash offset it is written to."""

    name: str
    offset: int
    file: Annotated[str, Field(pattern=r"^[a-z0-9_]+\.bin$")]
    size: int
    sha256: Sha256


class Part(_Model):
    """A row of the partition table."""

    name: str
    type: int
    subtype: int
    offset: int
    size: int


class ModuleCost(_Model):
    """A file of the firmware as it is on the unit."""

    file: str
    bytes: int


class BaseImage(_Model):
    """Where bootloader and application come from; a stand-in has neither name nor checksum."""

    name: str | None
    sha256: Sha256 | None


class Contents(_Model):
    """manifest.json."""

    v: Literal[1]
    board: str
    chip: str
    flash_size: int
    base: BaseImage
    regions: list[Region]
    layout: list[Part]
    modules: list[ModuleCost]
    vfs_used: int
    tools: dict[str, str]


@dataclass(frozen=True)
class Build:
    """A finished build in its folder."""

    folder: Path
    contents: Contents

    @property
    def manifest(self) -> Path:
        """The file that describes the build."""
        return self.folder / MANIFEST

    @property
    def regions(self) -> list[tuple[int, Path]]:
        """(flash offset, file), by offset."""
        return [(region.offset, self.folder / region.file) for region in self.contents.regions]

    @property
    def layout(self) -> list[Part]:
        """The partition table."""
        return self.contents.layout

    @classmethod
    def load(cls, folder: Path) -> Build:
        """The build in a folder, all of it checked against its manifest."""
        path = folder / MANIFEST
        try:
            contents = Contents.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise KoblerError(f"{folder}: no finished build here; make one with `kobler build`") from None
        except (ValidationError, OSError) as e:
            reason = str(e).splitlines()[0]
            raise KoblerError(f"{path}: cannot be used ({reason}); build again with `kobler build`") from None
        for region in contents.regions:
            file = folder / region.file
            if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != region.sha256:
                raise KoblerError(f"{file}: not what was built; build again with `kobler build`")
        return cls(folder, contents)

    @classmethod
    def save(cls, folder: Path, contents: dict[str, Any], files: dict[str, bytes]) -> Build:
        """Write the files, and the manifest last: without it there is no build."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MANIFEST).unlink(missing_ok=True)
            for name, data in files.items():
                write_atomic(folder / name, data)
            write_atomic(folder / MANIFEST, (json.dumps(contents, indent=1) + "\n").encode())
        except OSError as e:
            raise KoblerError(f"{folder}: cannot write the build: {e.strerror}") from None
        return cls(folder, Contents.model_validate(contents))
