"""How an operation is described: as its maker does, and who may do it."""

from typing import Any

from drf_spectacular.openapi import AutoSchema

from daemon_app.api.permissions import right_of
from daemon_app.models.access import RIGHTS, Role


class Described(AutoSchema):
    """Adds the least role that an operation needs, as `x-role`."""

    def get_extensions(self) -> dict[str, Any]:
        """Return what stands in the description beside what OpenAPI knows."""
        right = right_of(self.view, self.method)
        return {"x-role": least_role(right)} if right else {}


def least_role(right: str) -> str:
    """Return the role that has a right and the fewest others."""
    by_rights = sorted(Role, key=lambda role: sum(role in roles for roles in RIGHTS.values()))
    return str(next(role for role in by_rights if role in RIGHTS[right]))
