"""People who use other programs, which told us by `POST /api/daemon/activity`."""

from daemon_app.signs import SIGNS
from daemon_app.signs.marks import PROGRAM
from daemon_app.signs.requests import Marked


@SIGNS.register("programs")
class Programs(Marked):
    """Programs that told us of their people."""

    signal = "programs"
    kind = PROGRAM
