# Who has which sectors of the raw flash. Fixed by how many there are: what lies in it must be found again after an
# update, so no share may ever change. 1 MB has room for hours and days of 50 points.
_FEWEST = 32


def layout(sectors):
    """{name: (first sector, how many)}; ValueError when there are too few."""
    if sectors < _FEWEST:
        raise ValueError("the journal has %d sectors of 4096 bytes, at least %d are needed" % (sectors, _FEWEST))
    regions = {}
    first = 0
    rows = (
        ("settings", 2),
        ("vault", 2),
        ("names", max(8, sectors // 32)),
        ("hours", sectors * 9 // 64),
        ("days", sectors * 19 // 64),
    )
    for name, count in rows:
        regions[name] = (first, count)
        first += count
    regions["journal"] = (first, sectors - first)
    return regions


def open_flash(hal):
    """(flash, its layout): the raw flash, or files where there is none or not enough of it."""
    flash = hal.flash()
    if flash is None or flash.sectors < _FEWEST:
        from coupler.store.files import Files

        flash = Files(hal)
    return flash, layout(flash.sectors)
