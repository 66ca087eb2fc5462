"""Tokens of this interface, for administrators: list, make, revoke."""

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db.models import Q
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _t
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app.api import paging
from daemon_app.api.endpoint import Endpoint
from daemon_app.api.errors import Fields, refused
from daemon_app.api.fields import Choice, Count, FlagWord, Instant, Strict, Text, Whole, one_line
from daemon_app.api.schema import answers
from daemon_app.models import Account, Token
from daemon_app.models.access import Role

USUAL_DAYS, MOST_DAYS = 90, 3650
LONGEST_NAME = 80


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────
class TokenSerializer(serializers.ModelSerializer[Token]):
    """A token, without its secret. The context holds `now`."""

    account = serializers.CharField(
        source="account.username", read_only=True, help_text="Whose it is; it can do no more."
    )
    created_at = Instant(read_only=True)
    expires_at = Instant(read_only=True, allow_null=True, help_text="null: never.")
    last_used_at = Instant(
        read_only=True, allow_null=True, help_text="To the minute; null: never used."
    )
    revoked_at = Instant(read_only=True, allow_null=True, help_text="null: it is not revoked.")
    is_live = serializers.SerializerMethodField(help_text="Whether it still opens anything.")

    class Meta:
        model = Token
        fields: tuple[str, ...] = (
            "id",
            "name",
            "role",
            "account",
            "is_live",
            "created_at",
            "expires_at",
            "last_used_at",
            "revoked_at",
        )
        read_only_fields = fields

    def get_is_live(self, token: Token) -> bool:
        return token.is_live(self.context["now"])


class NewToken(TokenSerializer):
    """A token that was just made, with its full text."""

    token = serializers.SerializerMethodField(help_text="bach_<id>_<secret>, here and never again.")

    class Meta(TokenSerializer.Meta):
        fields = (*TokenSerializer.Meta.fields, "token")
        read_only_fields = fields

    def get_token(self, token: Token) -> str:
        text: str = self.context["text"]
        return text


class Tokens(serializers.Serializer[Any]):
    """A page of tokens, newest first."""

    tokens = TokenSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="Where the next page is; null: none.")


class TokensQuery(Strict):
    """Which tokens."""

    is_live = FlagWord(required=False, help_text="Only those that still open something, or not.")
    limit = Count(min_value=1, max_value=200, required=False, help_text="50 unless given.")
    before = Count(min_value=1, required=False, help_text="Only tokens with a lower id.")


class MakeToken(Strict):
    """What a token is for, and how long."""

    name = Text(max_length=LONGEST_NAME, help_text="What it is for.")
    role = Choice(choices=Role.choices, required=False, help_text="viewer unless given.")
    days = Whole(
        min_value=0,
        max_value=MOST_DAYS,
        required=False,
        help_text="How long it is valid; 90 unless given, 0: without end. One that is made with a "
        "token ends with that at the latest.",
    )


# ── Endpoints ────────────────────────────────────────────────────────────────────────────────────
class AllTokens(Endpoint):
    """All tokens."""

    rights: ClassVar = {"GET": "manage", "POST": "manage"}
    query_class = TokensQuery

    @extend_schema(
        operation_id="list_tokens",
        summary="List tokens",
        tags=["tokens"],
        parameters=[TokensQuery],
        responses=answers({200: Tokens}),
    )
    def get(self, request: Request) -> Response:
        """Return tokens of all accounts, newest first, never their secrets."""
        tokens = Token.objects.select_related("account")
        if "is_live" in self.query:
            valid = Q(expires_at=None) | Q(expires_at__gt=self.now)
            live = valid & Q(revoked_at=None, account__is_active=True)
            tokens = tokens.filter(live if self.query["is_live"] else ~live)
        shown, there = paging.newest_first(request, tokens, self.query)
        return Response(
            {
                "tokens": TokenSerializer(shown, many=True, context={"now": self.now}).data,
                "next": there,
            }
        )

    @extend_schema(
        operation_id="create_token",
        summary="Make a token",
        tags=["tokens"],
        request=MakeToken,
        examples=[
            OpenApiExample(
                "For monitoring",
                {"name": "monitoring", "role": "viewer", "days": 365},
                request_only=True,
            )
        ],
        responses=answers(
            {201: OpenApiResponse(NewToken, "The token; its text can't be had again.")},
            changes=True,
        ),
    )
    def post(self, request: Request) -> Response:
        """Make a token for whoever asks; its text is in the answer and nowhere else."""
        values, wrong = MakeToken().read(request.data)
        name = one_line(values.get("name", ""))
        if "name" not in wrong and not name:
            wrong["name"] = [_t("Say what it is for, for example “monitoring”.")]
        elif len(values.get("name", "")) > LONGEST_NAME:
            wrong["name"] = [_t("At most %(n)s characters.") % {"n": LONGEST_NAME}]
        life = self._life(request, values, wrong)
        if wrong:
            raise refused(wrong)
        account = request.user
        assert isinstance(account, Account)  # nobody else passes ByRole
        role = values.get("role", Role.VIEWER)
        token, text = Token.issue(account, name=name, role=role, now=self.now, life=life)
        told = NewToken(token, context={"now": self.now, "text": text}).data
        where = reverse("api:token", args=[token.pk])
        return Response(told, status=201, headers={"Location": where, "Cache-Control": "no-store"})

    def _life(self, request: Request, values: dict[str, Any], wrong: Fields) -> timedelta | None:
        """Return how long the token is to be valid; None for without end.

        A program whose token ends must not be able to let itself in for longer.
        """
        days = values.get("days")
        if days is not None and not 0 <= days <= MOST_DAYS:
            facts = {"low": 0, "high": MOST_DAYS}
            wrong["days"] = [_t("Give a whole number from %(low)s to %(high)s.") % facts]
            return None
        end: datetime | None = getattr(request.auth, "expires_at", None)
        most = end - self.now if end else None
        if days is None:
            usual = timedelta(days=USUAL_DAYS)
            return min(usual, most) if most is not None else usual
        life = timedelta(days=days) or None
        if most is not None and (life is None or life > most):
            wrong["days"] = [
                _t("A token made with a token ends with it at the latest: give at most %(n)s.")
                % {"n": most.days}
            ]
            if not most.days:
                wrong["days"] = [_t("Your token ends within a day; leave this out.")]
        return life


class OneToken(Endpoint):
    """One token."""

    rights: ClassVar = {"GET": "manage"}

    @extend_schema(
        operation_id="read_token",
        summary="Read a token",
        tags=["tokens"],
        responses=answers({200: TokenSerializer}, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return a token, without its secret."""
        token = get_object_or_404(Token.objects.select_related("account"), pk=pk)
        return Response(TokenSerializer(token, context={"now": self.now}).data)


class RevokeToken(Endpoint):
    """Ending a token."""

    rights: ClassVar = {"POST": "manage"}

    @extend_schema(
        operation_id="revoke_token",
        summary="Revoke a token",
        tags=["tokens"],
        request=None,
        responses=answers({200: TokenSerializer}, 404, changes=True),
    )
    def post(self, request: Request, pk: int) -> Response:
        """End a token for good; what is open with it ends, too. Asked again nothing changes."""
        _values, wrong = Strict().read(request.data)
        if wrong:
            raise refused(wrong)
        token = get_object_or_404(Token.objects.select_related("account"), pk=pk)
        token.revoke(self.now)
        token.refresh_from_db(fields=["revoked_at"])
        return Response(TokenSerializer(token, context={"now": self.now}).data)
