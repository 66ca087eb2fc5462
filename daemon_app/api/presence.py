"""Who is here: told by other programs, and said by people."""

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _t
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from daemon_app.api import glance, machine
from daemon_app.api.endpoint import Endpoint, asking
from daemon_app.api.errors import Fields, by_field, refused
from daemon_app.api.fields import Choice, Instant, Strict, Text, Whole, one_line
from daemon_app.api.schema import answers
from daemon_app.middleware import arrived
from daemon_app.models import Node, Policy, Token
from daemon_app.signs.marks import PROGRAM, Notebook

LONGEST_WHO, LONGEST_PROGRAM = 150, 80
MOST_MINUTES = 7 * 24 * 60
notebook = Notebook(settings.DATA_DIR)


class Activity(Strict):
    """Who is active, and in which program. Both may be left out."""

    who = Text(
        max_length=LONGEST_WHO, required=False, allow_blank=True, help_text="A person's name."
    )
    program = Text(
        max_length=LONGEST_PROGRAM,
        required=False,
        allow_blank=True,
        help_text="What they use; the token's name unless given.",
    )


class Tell(Endpoint):
    """Word of people who use other programs."""

    rights: ClassVar = {"POST": "operate"}

    @extend_schema(
        operation_id="tell_activity",
        summary="Tell that somebody is active",
        tags=["presence"],
        request=Activity,
        examples=[
            OpenApiExample("Anna", {"who": "anna", "program": "flask-app"}, request_only=True)
        ],
        responses=answers({204: OpenApiResponse(description="Taken in.")}, changes=True),
    )
    def post(self, request: Request) -> Response:
        """Tell the daemon that somebody uses another program; the body may be empty.

        Runs that yield to people are asked to stop before the answer is sent.
        """
        values, wrong = Activity().read(request.data)
        for name, longest in (("who", LONGEST_WHO), ("program", LONGEST_PROGRAM)):
            if len(values.get(name, "")) > longest:
                wrong[name] = [_t("At most %(n)s characters.") % {"n": longest}]
        if wrong:
            raise refused(wrong)
        token = request.auth
        default = token.name if isinstance(token, Token) else asking(request)
        who, program = (one_line(values.get(name, "")) for name in ("who", "program"))
        named = f"{who} ({program})" if who and program else who or program or default
        key = f"{request.user.pk} {named}"
        notebook.note(key, who=named, signal=PROGRAM, at=arrived(request))
        return Response(status=204)

    def get_throttles(self) -> list[BaseThrottle]:
        """Return none: a program may tell of each request it gets; the database has no part."""
        return []


class SaidPresence(Strict):
    """What to say of being here."""

    state = Choice(
        choices=[*Policy.Presence.values],
        required=True,
        help_text="here, away, or empty to take it back.",
    )
    until = Instant(required=False, help_text="When it ends: at most 7 days from now.")
    minutes = Whole(
        required=False,
        min_value=1,
        max_value=MOST_MINUTES,
        help_text="For how long instead; 8 hours when neither is given.",
    )


class NowPresent(serializers.Serializer[Any]):
    """Who is here, as far as it is known."""

    presence = machine.Presence(help_text="What somebody has said.")
    idle = serializers.BooleanField(allow_null=True, help_text="null: not known.")
    idle_since = Instant(allow_null=True, help_text="Since when it is so.")
    idle_from = Instant(allow_null=True, help_text="When it will be idle if nothing happens.")
    idle_reasons = machine.IdleReason(many=True)
    users = serializers.IntegerField(help_text="People seen in the last five minutes.")
    active_at = Instant(allow_null=True, help_text="When somebody was last seen.")
    host = serializers.CharField(allow_null=True)


class Presence(Endpoint):
    """Who is here now, and what they say of it."""

    rights: ClassVar = {"GET": "view", "PUT": "operate"}

    @extend_schema(
        operation_id="read_presence",
        summary="Read who is here",
        tags=["presence"],
        responses=answers({200: NowPresent}),
    )
    def get(self, request: Request) -> Response:
        """Return what is seen of people and what somebody has said."""
        return Response(_told(self.now))

    @extend_schema(
        operation_id="say_presence",
        summary="Say that you are here, or away",
        tags=["presence"],
        request=SaidPresence,
        examples=[
            OpenApiExample(
                "Away for two hours", {"state": "away", "minutes": 120}, request_only=True
            ),
            OpenApiExample("Take it back", {"state": ""}, request_only=True),
        ],
        responses=answers({200: NowPresent}, changes=True),
    )
    def put(self, request: Request) -> Response:
        """Say it; holds at once, and until its end.

        `here` keeps the machine busy. `away` makes people's requests, programs and logins count
        for nothing; models at work, and the load of others, go on counting.
        """
        values, wrong = SaidPresence().read(request.data)
        until = _end(values, wrong, self.now)
        if "state" not in values and "state" not in wrong:
            wrong["state"] = [_t("Give one of: %(words)s.") % {"words": 'here, away, ""'}]
        if wrong:
            raise refused(wrong)
        try:
            Policy.set_presence(values["state"], now=self.now, by=asking(request), until=until)
        except ValidationError as error:
            raise refused(by_field(error)) from None
        return Response(_told(self.now))


def _end(values: dict[str, Any], wrong: Fields, now: datetime) -> datetime | None:
    """Return the end that was given; None for none. What can't be is added to `wrong`."""
    minutes = values.get("minutes")
    if minutes is None:
        end: datetime | None = values.get("until")
        return end
    if "until" in values:
        wrong["minutes"] = [_t("Give “until” or “minutes”, not both.")]
    elif not 1 <= minutes <= MOST_MINUTES:
        wrong["minutes"] = [
            _t("Give a whole number from %(low)s to %(high)s.") % {"low": 1, "high": MOST_MINUTES}
        ]
    else:
        return now + timedelta(minutes=minutes)
    return None


def _told(now: datetime) -> dict[str, Any]:
    node = Node.latest()
    alive = node is not None and node.is_alive(now)
    return {
        "presence": glance.presence_told(Policy.current(), now, known=True),
        **glance.idle_told(node, now, known=True),
        "users": node.users if node and alive else 0,
        "active_at": glance.iso(node.active_at if node else None),
        "host": node.host if node else None,
    }
