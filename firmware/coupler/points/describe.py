# What a point is, for whoever reads or writes it.

from coupler.points.encode import limits


def describe(point):
    """{"name", "type", "unit", "texts", "write": {"min", "max", "role", "verify"}} without what the point has not.

    The limits are those of the configuration or, where it has none, of what the registers can hold."""
    kind, _, extra, count, _, texts = point.form[:6]
    if kind == "string":
        kind = "string(%d)" % extra
    elif kind == "bits":
        kind = "bits(%d,%d)" % (extra, count)
    row = {"name": point.name, "type": kind}
    if point.unit:
        row["unit"] = point.unit
    if texts:
        row["texts"] = {str(raw): texts[raw] for raw in texts}
    if point.wr is not None:
        row["write"] = write = {"role": point.wr["role"], "verify": point.wr.get("verify", False)}
        for key, limit in zip(("min", "max"), limits(point)):
            if limit is not None:
                write[key] = limit
    return row
