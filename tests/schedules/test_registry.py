"""Named things: no doubles, and a stranger is told who is known."""

import pytest

from daemon_app.registry import Registry, UnknownNameError


def test_things_are_found_by_name_in_the_order_of_registration() -> None:
    colours: Registry[str] = Registry("colour")

    colours.register("red")("#f00")
    given_back = colours.register("blue")("#00f")

    assert given_back == "#00f"
    assert list(colours) == ["red", "blue"]
    assert colours["red"] == "#f00"


def test_a_name_cannot_be_taken_twice() -> None:
    colours: Registry[str] = Registry("colour")
    colours.register("red")("#f00")

    with pytest.raises(ValueError, match="colour 'red' is registered twice; known: red"):
        colours.register("red")("#e00")

    assert colours["red"] == "#f00"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    colours: Registry[str] = Registry("colour")
    colours.register("red")("#f00")

    with pytest.raises(UnknownNameError, match="unknown colour 'green'; known: red"):
        colours["green"]

    assert colours.get("green") is None
    assert "green" not in colours
