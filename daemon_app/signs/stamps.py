"""Turn time stamps, which a set clock falsifies, into instants on the monotonic clock."""

from collections.abc import Mapping


class Stamps:
    """When things were last used, from one look to the next.

    A stamp that differs from the last look's means use since then, whatever it says; only at the
    first look its age has to be believed.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}  # stamp, last use
        self._looked: float | None = None  # when, on the monotonic clock

    def look(self, stamps: Mapping[str, float], wall: float, mono: float) -> dict[str, float]:
        """Return for each of these stamps (wall time) the instant of use on the monotonic clock."""
        earliest = float("-inf") if self._looked is None else self._looked
        found: dict[str, tuple[float, float]] = {}
        for key, stamp in stamps.items():
            known = self._known.get(key)
            if known is not None and known[0] == stamp:
                found[key] = known
            else:
                # One of the future was made by a clock that ran ahead: just now, to be safe.
                age = max(wall - stamp, 0.0)
                found[key] = stamp, min(max(mono - age, earliest), mono)
        self._known, self._looked = found, mono
        return {key: last for key, (_stamp, last) in found.items()}
