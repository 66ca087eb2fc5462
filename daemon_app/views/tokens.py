"""Tokens of the REST interface, for administrators: made, shown once, revoked."""

from datetime import datetime, timedelta
from typing import cast

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from daemon_app.models import Account, Token
from daemon_app.models.access import Role
from daemon_app.permissions import requires
from daemon_app.views.errors import only_post
from daemon_app.views.page import done, page

LONGEST_LIFE = 3650
MOST_SHOWN = 200


class TokenForm(forms.Form):
    """A token to be made, for whoever asks."""

    use_required_attribute = False

    name = forms.CharField(
        label=_("Name"),
        max_length=80,
        error_messages={"required": _("Say what it is for, for example “monitoring”.")},
    )
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices, initial=Role.VIEWER)
    days = forms.IntegerField(label=_("Valid for"), initial=90, min_value=0, max_value=LONGEST_LIFE)

    def clean_name(self) -> str:
        """Return the name on one line, fit to be shown."""
        text = "".join(c if c.isprintable() else " " for c in str(self.cleaned_data["name"]))
        if not (name := " ".join(text.split())):
            raise forms.ValidationError(self.fields["name"].error_messages["required"])
        return name


@require_http_methods(["GET", "HEAD", "POST"])
@requires("manage")
def tokens(request: HttpRequest) -> HttpResponse:
    """List all tokens, or make one, which is shown in the answer and never again."""
    now, account = timezone.now(), cast("Account", request.user)
    if request.method != "POST":
        return _shown(request, TokenForm(), now)
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _shown(request, form, now, status=422)
    life = timedelta(days=form.cleaned_data["days"]) or None
    name, role = form.cleaned_data["name"], form.cleaned_data["role"]
    token, text = Token.issue(account, name=name, role=role, now=now, life=life)
    return _shown(request, TokenForm(), now, issued=token, text=text)


@only_post
@requires("manage")
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """End a token for good."""
    found = get_object_or_404(Token.objects.select_related("account"), pk=pk)
    said = _t("Token %(id)s (%(name)s) was revoked already.")
    if found.revoke(timezone.now()):
        said = _t("Token %(id)s (%(name)s) is revoked.")
    messages.success(request, said % {"name": found.name, "id": found.pk})
    return done(request, reverse("tokens"))


def _shown(  # noqa: PLR0913 - the facts of one page
    request: HttpRequest,
    form: TokenForm,
    now: datetime,
    *,
    issued: Token | None = None,
    text: str = "",
    status: int = 200,
) -> HttpResponse:
    found = Token.objects.select_related("account").order_by("-pk")[:MOST_SHOWN]
    context = {
        "form": form,
        "rows": [(token, _state(token, now)) for token in found],
        "issued": issued,
        "text": text,
    }
    return page(request, "daemon/tokens.html", context, section="settings", now=now, status=status)


def _state(token: Token, now: datetime) -> str:
    if token.is_live(now):
        return "valid"
    if token.revoked_at:
        return "revoked"
    return "expired" if token.account.is_active else "closed"
