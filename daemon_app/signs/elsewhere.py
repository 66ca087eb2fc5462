"""People who are seen by another host that works on the same database."""

from typing import ClassVar

from daemon_app.signs import SIGNS, Scene, Sign
from daemon_app.signs.stamps import Stamps


@SIGNS.register("elsewhere")
class Elsewhere:
    """Activity at other hosts, as they wrote it down (`Node.active_at`)."""

    is_person: ClassVar[bool] = True
    quick: ClassVar[bool] = True
    often: ClassVar[float | None] = None

    def __init__(self) -> None:
        self._stamps = Stamps()

    def look(self, scene: Scene) -> Sign | None:
        """Return the last activity at any other host; None where there are no others."""
        if not scene.elsewhere:
            return None
        lasts = self._stamps.look(scene.elsewhere, scene.wall, scene.mono)
        host, last = max(lasts.items(), key=lambda item: item[1])
        if scene.mono - last >= scene.rules.idle_after:
            return Sign("elsewhere", False, last=last)
        return Sign("elsewhere", True, "sign_elsewhere", {"host": host}, last)
