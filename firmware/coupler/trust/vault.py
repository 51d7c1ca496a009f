# The identity's second place: key, certificate and authority once more, in two sectors of the raw flash that no file
# system can take along. Where there is none, in files of another folder: that helps against a flipped file only.
#
# /etc/identity has the digest of the set of files. It tells which place is right when the two differ:
#   the files match it               they are whole: the vault takes them, for it fell back to an older set or is empty
#   they do not, the vault is whole  a file is gone or damaged, or the file system new: all come back from the vault
#   no digest and an empty vault     the first boot after an update: files that are all there are taken as they are
# A switch that was begun comes before all this (switch.py). In `check` the digest is written last, so that all of it
# may be interrupted and done again. This module is imported at every boot and forgotten: keep it small.
import errno
import hashlib
import struct

from coupler.store.layout import open_flash
from coupler.store.snapshot import MOST, Snapshot

_DIGEST = "/etc/identity"
ROOM = MOST - 6  # bytes for the three
_KEY = 121  # of them, as csr.write_key has it


def room(certificate):
    """Bytes that are left for authorities beside a key and a certificate like this one; None: one yet to come."""
    return ROOM - _KEY - (len(certificate) + 64 if certificate else 1200)


def keep(hal, paths):
    """The files at `paths` are the identity from now on. OSError when one is missing or the flash does not keep it."""
    there = _pack(hal, paths)
    if there is None:
        raise OSError(errno.ENOENT)
    _note(hal, there)  # first: should the flash not keep them, the files are right all the same
    place = _place(hal)
    if there != place.load():
        place.save(there)


def check(hal, paths):
    """Make both places whole. "restored" when files came from the vault, "damaged" when it cannot help, else None."""
    there = _pack(hal, paths)
    noted = hal.read_file(_DIGEST)
    place = _place(hal)
    kept = place.load()
    found = None
    if there != kept:
        if there and (noted == _digest(there) or not kept and not noted):
            place.save(there)
        elif kept:
            _restore(hal, paths, kept)
            there = kept
            found = "restored"
        else:
            return "damaged"
    elif not there:
        return "damaged" if noted else None
    _note(hal, there)
    return found


def _place(hal):
    flash, regions = open_flash(hal)
    return Snapshot(flash, *regions["vault"])


def _pack(hal, paths):
    # -> the set in one piece, None if it is not complete
    packed = b""
    for path in paths:
        data = hal.read_file(path)
        if data is None:
            return None
        packed += struct.pack("<H", len(data)) + data
    return packed


def _restore(hal, paths, packed):
    at = 0
    for path in paths:
        begin = at + 2
        at = begin + struct.unpack_from("<H", packed, at)[0]
        data = packed[begin:at]
        if hal.read_file(path) != data:
            hal.write_file(path, data)


def _digest(packed):
    return hashlib.sha256(packed).digest()


def _note(hal, packed):
    digest = _digest(packed)
    if hal.read_file(_DIGEST) != digest:
        hal.write_file(_DIGEST, digest)
