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

from coupler.const import const
from coupler.store.layout import open_flash
from coupler.store.snapshot import MOST, Snapshot

_DIGEST = "/etc/identity"
_SIZE = const(32)  # of it
ROOM = MOST - 6  # bytes for the three
_KEY = 121  # of them, as csr.write_key has it


def room(certificate):
    """Bytes that are left for authorities beside a key and a certificate like the first one here; None: one yet to
    come."""
    return ROOM - _KEY - (_first(certificate) + 64 if certificate else 1200)


def keep(hal, paths):
    """The files at `paths` are the identity from now on. OSError when one is missing or the flash does not keep it."""
    parts = _read(hal, paths)
    if parts is None:
        raise OSError(errno.ENOENT)
    _note(hal, _digest(parts))  # first: should the flash not keep them, the files are right all the same
    place = _place(hal)
    _save(place, place.load(), _fitting(parts))


def check(hal, paths):
    """Make both places whole. "restored" when files came from the vault, "damaged" when it cannot help, else None."""
    parts = _read(hal, paths)
    digest = parts and _digest(parts)
    fitting = parts and _fitting(parts)
    noted = hal.read_file(_DIGEST)
    place = _place(hal)
    kept = place.load()
    found = None
    if parts and (noted == digest or not kept and not noted):
        _save(place, kept, fitting)
    elif not kept:
        return "damaged" if parts or noted else None
    # What the vault has as well is right without a digest; what it has no room for, too, unless there is another one.
    elif not parts or not _same(kept, fitting) or fitting is not parts and len(noted or b"") == _SIZE:
        _restore(hal, paths, kept)
        digest = hashlib.sha256(kept).digest()
        found = "restored"
    _note(hal, digest)
    return found


def _place(hal):
    flash, regions = open_flash(hal)
    return Snapshot(flash, *regions["vault"])


def _read(hal, paths):
    # -> the files' contents, None if they are not all there
    parts = [hal.read_file(path) for path in paths]
    return None if None in parts else parts


def _digest(parts):
    # Of all in one piece, as the vault has it.
    found = hashlib.sha256()
    for part in parts:
        found.update(struct.pack("<H", len(part)))
        found.update(part)
    return found.digest()


def _save(place, kept, parts):
    if not _same(kept, parts):
        place.save(b"".join([struct.pack("<H", len(part)) + part for part in parts]))


def _same(kept, parts):
    return kept is not None and hashlib.sha256(kept).digest() == _digest(parts)


def _fitting(parts):
    # -> what of them the vault can have; parts itself where that is all. Should it be too much, the certificates that
    # lead to the authority stay out: a broker may know them, and the files have them.
    over = sum([len(part) for part in parts]) - ROOM
    if over <= 0:
        return parts
    key, shown, authorities = parts
    end = _first(shown)
    while end < len(shown):
        further = end + _first(shown[end:])
        if further > len(shown) - over:
            break
        end = further
    return key, shown[:end], authorities


def _first(certificates):
    # bytes of the first
    return 4 + int.from_bytes(certificates[2:4], "big")


def _restore(hal, paths, packed):
    at = 0
    for path in paths:
        begin = at + 2
        at = begin + struct.unpack_from("<H", packed, at)[0]
        data = packed[begin:at]
        if hal.read_file(path) != data:
            hal.write_file(path, data)


def _note(hal, digest):
    if hal.read_file(_DIGEST) != digest:
        hal.write_file(_DIGEST, digest)
