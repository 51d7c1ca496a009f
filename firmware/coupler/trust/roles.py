# Who may do what: three roles, each may what those before it may.
ROLES = ("viewer", "operator", "admin")


def allowed(role, needed):
    """Whether `role` may do what `needed` may; False for any that is none."""
    return needed in ROLES and role in ROLES and ROLES.index(role) >= ROLES.index(needed)
