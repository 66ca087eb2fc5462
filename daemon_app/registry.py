"""Named things of one sort: schedule kinds, gates, skills. Filled by decorators, read as a dict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class UnknownNameError(LookupError):
    """Nothing is registered under that name; the message lists the names that are."""


class Registry(dict[str, T], Generic[T]):
    """A dict from name to thing, in the order of registration, that refuses doubles.

    >>> animals: Registry[type] = Registry("animal")
    >>> @animals.register("cat")
    ... class Cat: ...
    >>> list(animals)
    ['cat']
    """

    def __init__(self, noun: str) -> None:
        super().__init__()
        self.noun = noun

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its thing under `name` and gives it back unchanged.

        Raises ValueError when the name is taken: two plug-ins that fight for a name
        would otherwise be decided by import order.
        """

        def file(thing: T) -> T:
            if name in self:
                raise ValueError(f"{self.noun} {name!r} is registered twice; {self._known()}")
            self[name] = thing
            return thing

        return file

    def __missing__(self, name: str) -> NoReturn:
        raise UnknownNameError(f"unknown {self.noun} {name!r}; {self._known()}")

    def _known(self) -> str:
        return f"known: {', '.join(self) or 'none'}"
