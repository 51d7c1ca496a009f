# The raw flash's interface over files, for a unit whose flash has no partition for it: a file a sector. On littlefs a
# write copies the rest of its block, so this costs more time and wear than raw flash.
_SECTOR = 4096
_BLANK = b"\xff"


class Files:
    """`sectors` of 4096 bytes in the files of `folder`; what is not there is blank. Durable when a call returns."""

    def __init__(self, hal, sectors=64, folder="/journal"):
        self._hal = hal
        self._folder = folder
        self.sectors = sectors

    def read(self, at, buf):
        for path, offset, piece in self._pieces(at, buf):
            got = 0
            f = self._hal.open_file(path, "rb")
            if f is not None:
                with f:
                    f.seek(offset)
                    got = f.readinto(piece)
            piece[got:] = _BLANK * (len(piece) - got)

    def program(self, at, buf):
        """Each byte once after an erase; ValueError, and nothing of that sector changed, where one is not blank."""
        for path, offset, piece in self._pieces(at, buf):
            f = self._hal.open_file(path, "r+b")
            if f is None:
                self._hal.write_file(path, _BLANK * offset + bytes(piece))
                continue
            with f:
                end = f.seek(0, 2)
                if end > offset:
                    f.seek(offset)
                    if f.read(len(piece)).strip(_BLANK):
                        raise ValueError("%s is written at %d already: erase it first" % (path, offset))
                    f.seek(offset)
                else:
                    f.write(_BLANK * (offset - end))
                f.write(piece)
                self._hal.flush(f)

    def erase(self, sector):
        self._check(sector)
        self._hal.remove(self._path(sector))

    def _path(self, sector):
        return "%s/%d" % (self._folder, sector)

    def _check(self, sector):
        if not 0 <= sector < self.sectors:
            raise ValueError("%s has no sector %d, only %d of them" % (self._folder, sector, self.sectors))

    def _pieces(self, at, buf):
        # (path, offset in it, part of buf) of each sector that is touched
        view = memoryview(buf)
        done = 0
        while done < len(view):
            sector, offset = divmod(at + done, _SECTOR)
            self._check(sector)
            n = min(_SECTOR - offset, len(view) - done)
            yield self._path(sector), offset, view[done : done + n]
            done += n
