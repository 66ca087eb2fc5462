"""Django's admin, for administrators alone: jobs and pools to edit, what was, accounts, tokens."""

from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import password_validation, update_session_auth_hash
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters

from daemon_app.models import Account, Attempt, Incident, Job, Policy, Pool, Run, Token


# ── Jobs and pools ───────────────────────────────────────────────────────────────────────────────
class StoredForm(forms.ModelForm):  # type: ignore[type-arg]
    """A row that is stored by its own gate: what that refuses stands beside the field."""

    by = ""

    def _post_clean(self) -> None:
        # Here and not after the check: storing may still refuse, and what was typed must stay.
        # The admin's transaction is around it.
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        try:
            self.instance.store(now=timezone.now(), by=self.by)
        except ValidationError as error:
            for field, texts in error.message_dict.items():
                self.add_error(field if field in self.fields else None, texts)


class StoredAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows stored by their own gate. To delete one is for its own page: more hangs on it."""

    form = StoredForm
    actions = None

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> "type[forms.ModelForm[Any]]":
        """Return the form, which knows who edits."""
        form = super().get_form(request, obj, change, **kwargs)
        form.by = request.user.get_username()  # type: ignore[attr-defined]
        return form

    def save_model(
        self, request: HttpRequest, obj: Any, form: "forms.ModelForm[Any]", change: bool
    ) -> None:
        """Do nothing: the form has stored the row."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False


@admin.register(Job)
class JobAdmin(StoredAdmin):
    """Jobs."""

    list_display = ("name", "described", "is_active", "next_due_at", "updated_at", "updated_by")
    list_filter = ("is_active", "job_type")
    search_fields = ("name", "description", "command")
    readonly_fields = ("next_due_at", "version", "created_at", "updated_at", "updated_by")
    # The admin's own pair of a day and a time has one label for two fields.
    formfield_overrides: ClassVar = {
        models.DateTimeField: {
            "form_class": forms.DateTimeField,
            "widget": forms.DateTimeInput(
                attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"
            ),
        }
    }
    fieldsets = (
        (None, {"fields": ("name", "description", "is_active")}),
        (_("When"), {"fields": ("job_type", "schedule", "timezone", "next_due_at")}),
        (
            _("What"),
            {
                "fields": (
                    "command",
                    "use_shell",
                    "script_path",
                    "arguments",
                    "working_directory",
                    "environment",
                    "parameters",
                )
            },
        ),
        (
            _("Rules"),
            {
                "fields": (
                    "timeout_seconds",
                    "soft_timeout_seconds",
                    "grace_seconds",
                    "stop_command",
                    "leave_descendants",
                    "nice",
                    "idle_io",
                )
            },
        ),
        (
            _("Start"),
            {
                "fields": (
                    "overlap",
                    "max_instances",
                    "misfire",
                    "misfire_age_seconds",
                    "deadline",
                    "max_wait_seconds",
                    "pools",
                    "priority",
                )
            },
        ),
        (
            _("Failure"),
            {
                "fields": (
                    "max_retries",
                    "retry_backoff_seconds",
                    "retry_exit_codes",
                    "retry_on_timeout",
                    "on_loss",
                )
            },
        ),
        (
            _("Limits"),
            {
                "fields": (
                    "cpu_limit_seconds",
                    "memory_limit_mb",
                    "limit_sustain_seconds",
                    "limit_action",
                )
            },
        ),
        (_("What is kept"), {"fields": ("keep_days", "keep_runs", "keep_output_mb")}),
        (_("History"), {"fields": ("version", "created_at", "updated_at", "updated_by")}),
    )

    @admin.display(description=_("schedule"))
    def described(self, job: Job) -> str:
        """Return the schedule as a sentence."""
        return job.describe()


@admin.register(Pool)
class PoolAdmin(StoredAdmin):
    """Pools."""

    list_display = ("name", "size", "description", "updated_at", "updated_by")
    fields = ("name", "size", "description", "updated_at", "updated_by")
    readonly_fields = ("updated_at", "updated_by")


# ── What was ─────────────────────────────────────────────────────────────────────────────────────
class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that may be looked at: to change one would be to lie."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Return False."""
        return False


@admin.register(Run)
class RunAdmin(ReadOnly):
    """Runs, as they were."""

    list_display = ("id", "job_name", "state", "trigger", "due_at", "started_at", "ended_at")
    list_filter = ("state", "trigger")
    search_fields = ("=id", "job_name")
    show_full_result_count = False
    list_per_page = 50


@admin.register(Attempt)
class AttemptAdmin(ReadOnly):
    """Earlier attempts of runs that were tried again."""

    list_display = ("run_id", "number", "state", "started_at", "ended_at", "exit_code")
    list_filter = ("state",)
    search_fields = ("=run__id",)
    show_full_result_count = False
    list_per_page = 50


@admin.register(Policy)
class PolicyAdmin(ReadOnly):
    """The rules for all jobs; they have a page of their own."""

    list_display = ("__str__", "max_parallel", "hold", "updated_at", "updated_by")


@admin.register(Incident)
class IncidentAdmin(ReadOnly):
    """What happened to the daemon itself."""

    list_display = ("at", "level", "__str__", "acknowledged_at", "acknowledged_by")
    list_filter = ("level", "code")
    list_per_page = 50


# ── Accounts and tokens ──────────────────────────────────────────────────────────────────────────
class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """An account; a password may be set, and is never shown."""

    new_password = forms.CharField(
        label=_("New password"),
        required=False,
        strip=False,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("Empty: nothing changes. A new one ends every session of the account."),
    )

    class Meta:
        model = Account
        fields = ("username", "role", "is_active")
        widgets: ClassVar = {"username": forms.TextInput(attrs={"autocomplete": "off"})}

    def _post_clean(self) -> None:
        # Judged when the name is known: a password may not resemble it.
        super()._post_clean()  # type: ignore[misc]
        text = self.cleaned_data.get("new_password")
        if text:
            try:
                password_validation.validate_password(text, self.instance)
            except ValidationError as error:
                self.add_error("new_password", error)


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Accounts. They are switched off, not deleted: the log names them."""

    form = AccountForm
    list_display = ("username", "role", "is_active", "has_password", "last_login")
    list_filter = ("role", "is_active")
    search_fields = ("username",)
    fields = ("username", "role", "is_active", "new_password", "last_login", "date_joined")
    readonly_fields = ("last_login", "date_joined")
    actions = None

    @admin.display(description=_("password"), boolean=True)
    def has_password(self, account: Account) -> bool:
        """Return whether the account can sign in with a password."""
        return account.has_usable_password()

    @method_decorator(sensitive_post_parameters())
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show or take the form; the password in it stays out of error reports."""
        return super().changeform_view(request, *args, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: Account, form: "forms.ModelForm[Account]", change: bool
    ) -> None:
        """Write the account, with its password when one was given."""
        text = form.cleaned_data["new_password"]
        if text:
            obj.set_password(text)
        elif not change:
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)
        if text and obj == request.user:
            update_session_auth_hash(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        """Return False: an account is switched off."""
        return False


class TokenForm(forms.ModelForm):  # type: ignore[type-arg]
    """A token to be issued."""

    days = forms.IntegerField(
        label=_("Valid for … days"),
        initial=90,
        min_value=0,
        max_value=3650,
        help_text=_("0: for ever."),
    )

    class Meta:
        model = Token
        fields = ("name", "account", "role")


@admin.register(Token)
class TokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """API tokens: issued, shown once, revoked."""

    form = TokenForm
    fields = ("name", "account", "role", "days")
    list_display = (
        "__str__",
        "account",
        "role",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    )
    list_filter = ("role",)
    list_select_related = ("account",)
    search_fields = ("name",)
    actions = ("revoke",)

    @admin.action(description=_("Revoke the chosen tokens"))
    def revoke(self, request: HttpRequest, chosen: "models.QuerySet[Token]") -> None:
        """End tokens for good."""
        now = timezone.now()
        ended = [token for token in chosen if token.revoke(now)]
        for token in ended:
            self.log_change(request, token, [{"changed": {"fields": [_t("revoked")]}}])
        text = ngettext("%(n)s token revoked.", "%(n)s tokens revoked.", len(ended))
        self.message_user(request, text % {"n": len(ended)}, messages.SUCCESS)

    def has_change_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        """Return False: a token is revoked and another one issued."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        """Return False: that there was a token stays known."""
        return False

    def save_model(
        self, request: HttpRequest, obj: Token, form: "forms.ModelForm[Token]", change: bool
    ) -> None:
        """Issue the token; its text is on the object, and nowhere else."""
        now = timezone.now()
        life = timedelta(days=form.cleaned_data["days"]) or None
        token, text = Token.issue(obj.account, name=obj.name, role=obj.role, now=now, life=life)
        vars(obj).update(vars(token), text=text)

    def response_add(
        self, request: HttpRequest, obj: Token, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the token in the answer itself: a message would wait in the database."""
        context = self.admin_site.each_context(request) | {
            "title": _("Token issued"),
            "opts": self.opts,
            "token": obj,
            "text": vars(obj)["text"],
        }
        return TemplateResponse(request, "admin/daemon_app/token/issued.html", context)
