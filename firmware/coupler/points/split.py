# Parts a block that a device refuses as a whole, so that what it does have is still read.

from coupler.points.kinds import width


def halves(blocks, block):
    """Put two blocks in the place of `block` in the list `blocks`, each with a part of its points and no register more.

    Points of the very same registers stay together. Returns both, or None when there is nothing to part."""
    rows = [(point.at, width(point), i, point) for i, point in enumerate(block["p"])]
    rows.sort(key=lambda row: row[:3])
    cut = _cut(rows)
    if not cut:
        return None
    pair = _trimmed(block, rows[:cut]), _trimmed(block, rows[cut:])
    at = [each is block for each in blocks].index(True)
    blocks[at : at + 1] = pair
    return pair


def _cut(rows):
    # The widest gap, where the hole most likely is, else the place nearest to the middle where the registers change;
    # 0: there is none.
    best = 0
    widest = (-1, 0)
    end = 0
    for i in range(1, len(rows)):
        end = max(end, rows[i - 1][0] + rows[i - 1][1])
        gap = (max(0, rows[i][0] - end), -abs(2 * i - len(rows)))
        if rows[i][:2] != rows[i - 1][:2] and gap > widest:
            widest = gap
            best = i
    return best


def _trimmed(block, rows):
    first = min([row[0] for row in rows])
    half = dict(block)
    half["a"] = block["a"] + first
    half["n"] = max([row[0] + row[1] for row in rows]) - first
    half["p"] = points = [row[3] for row in rows]
    for point in points:
        point.at -= first
    return half
