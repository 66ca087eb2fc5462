"""What a person has said: "I am here" makes busy until its end. "Away" overrides other signs."""

from typing import ClassVar

from daemon_app.signs import SIGNS, Scene, Sign


@SIGNS.register("hand")
class Hand:
    """Presence by hand."""

    is_person: ClassVar[bool] = False
    quick: ClassVar[bool] = True
    often: ClassVar[float | None] = None

    def look(self, scene: Scene) -> Sign | None:
        """Return that somebody said to be here, while it holds."""
        if scene.rules.hand(scene.now) != "here":
            return None
        until = scene.rules.until
        facts = {"who": scene.rules.by or "?", "until": until.isoformat() if until else None}
        return Sign("hand", True, "sign_hand", facts)
