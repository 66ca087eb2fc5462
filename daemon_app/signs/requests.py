"""People who use these pages: the marks of web sessions."""

from typing import ClassVar

from daemon_app.signs import SIGNS, Scene, Sign
from daemon_app.signs.marks import REQUEST, names


class Marked:
    """Activity that was marked, of one kind."""

    is_person: ClassVar[bool] = True
    quick: ClassVar[bool] = True
    often: ClassVar[float | None] = None
    signal: ClassVar[str]
    kind: ClassVar[str]

    def look(self, scene: Scene) -> Sign:
        """Return whether there was activity within the time after which a machine is idle."""
        marks = [mark for mark in scene.marks if mark.signal == self.kind]
        recent = [mark for mark in marks if scene.mono - mark.last < scene.rules.idle_after]
        users = sum(scene.mono - mark.last < scene.rules.window for mark in marks)
        last = max((mark.last for mark in marks), default=None)
        if not recent:
            return Sign(self.signal, False, last=last, users=users)
        return seen(self.signal, names(recent), last, users)


def seen(signal: str, who: str, last: float | None = None, users: int = 0) -> Sign:
    """Return that `who` is active; "" is somebody who has not signed in."""
    if not who:
        return Sign(signal, True, "sign_visitor", {}, last, users)
    return Sign(signal, True, f"sign_{signal}", {"who": who}, last, users)


@SIGNS.register("requests")
class Requests(Marked):
    """Web sessions."""

    signal = "requests"
    kind = REQUEST
