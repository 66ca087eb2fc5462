"""What holds for all jobs: how much may run at once, pools, what is kept, and "hold everything"."""

import re
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.utils.translation import get_language
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import doorbell, live, windows
from daemon_app.models.change import Change, differing

POOL_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
# Services that a job can ask for, by the names of their checks.
SERVICES = ("gpu_service", "ollama")
MOST_FOLDERS = 100


class Policy(models.Model):
    """The one row of rules for all jobs. Empty limits mean the default of the installation."""

    class Hold(models.TextChoices):
        """Whether everything is held, and how."""

        NO = "", _("running")
        DRAIN = "drain", _("no new starts")
        STOP = "stop", _("everything stopped")

    max_parallel = models.PositiveIntegerField(
        _("runs at once"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
    )
    keep_days = models.PositiveIntegerField(
        _("keep runs for"), default=90, validators=[MinValueValidator(1), MaxValueValidator(36_500)]
    )
    keep_runs = models.PositiveIntegerField(
        _("keep of each job at most"),
        default=10_000,
        validators=[MinValueValidator(1), MaxValueValidator(1_000_000)],
    )
    keep_output_mb = models.PositiveIntegerField(
        _("keep output up to"),
        default=2048,
        validators=[MinValueValidator(1), MaxValueValidator(10_000_000)],
    )
    # ── Health, idleness, displacement (semantics 5 to 7) ────────────────────────────────────────
    gpu_service_url = models.CharField(_("GPU service"), max_length=500, blank=True)
    ollama_url = models.CharField(_("Ollama"), max_length=500, blank=True)
    slow_ms = models.PositiveIntegerField(
        _("slow from"), default=1000, validators=[MinValueValidator(1), MaxValueValidator(60_000)]
    )
    vram_high_percent = models.PositiveIntegerField(
        _("VRAM is high from"),
        default=80,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
    )
    vram_target_percent = models.PositiveIntegerField(
        _("free VRAM down to"),
        default=60,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
    )
    disk_low_gb = models.PositiveIntegerField(
        _("disk is low below"), default=10, validators=[MaxValueValidator(1_000_000)]
    )
    idle_after_seconds = models.PositiveIntegerField(
        _("idle after"), default=120, validators=[MinValueValidator(1), MaxValueValidator(86_400)]
    )
    # Empty: that signal is not looked at.
    foreign_load_percent = models.PositiveIntegerField(
        _("load of others counts from"),
        null=True,
        blank=True,
        default=90,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
    )
    watch_logins = models.BooleanField(_("people at this machine count"), default=True)
    watch_gpu = models.BooleanField(_("other programs on the GPU count"), default=True)
    quiet_hours = models.CharField(_("quiet hours"), max_length=200, blank=True)
    config_folders = models.JSONField(_("folders to check"), default=list, blank=True)

    class Presence(models.TextChoices):
        """What a person has said of being here."""

        UNSAID = "", _("by what is seen")
        HERE = "here", _("here")
        AWAY = "away", _("away")

    presence = models.CharField(max_length=10, choices=Presence.choices, blank=True, editable=False)
    presence_until = models.DateTimeField(null=True, editable=False)
    presence_at = models.DateTimeField(null=True, editable=False)
    presence_by = models.CharField(max_length=150, blank=True, editable=False)

    hold = models.CharField(max_length=10, choices=Hold.choices, blank=True, editable=False)
    held_at = models.DateTimeField(null=True, editable=False)
    held_by = models.CharField(max_length=150, blank=True, editable=False)
    hold_note = models.CharField(max_length=200, blank=True, editable=False)
    updated_at = models.DateTimeField(null=True, editable=False)
    updated_by = models.CharField(max_length=150, blank=True, editable=False)

    class Meta:
        db_table = "daemon_policy"
        verbose_name = verbose_name_plural = _("rules for all jobs")

    def __str__(self) -> str:
        return _t("Rules for all jobs")

    def clean(self) -> None:
        """Refuse rules that can't be meant; each message names the way out.

        Raises ValidationError with messages by field.
        """
        errors: dict[str, list[str]] = {}
        for field, check in (
            ("gpu_service_url", partial(self._check_address, "gpu_service_url", 17803)),
            ("ollama_url", partial(self._check_address, "ollama_url", 11434)),
            ("vram_target_percent", self._check_target),
            ("quiet_hours", self._check_quiet_hours),
            ("config_folders", self._check_folders),
        ):
            try:
                check()
            except TypeError:
                continue  # the field's own check has said so
            except ValidationError as error:
                errors[field] = error.messages
        if errors:
            raise ValidationError(errors)

    def _check_address(self, field: str, port: int) -> None:
        given = str(getattr(self, field) or "").strip()
        setattr(self, field, given.rstrip("/"))
        if given and (wrong := _wrong_address(given)):
            example = _t("For example http://localhost:%(port)s.") % {"port": port}
            raise ValidationError(f"{wrong} {example}")

    def _check_target(self) -> None:
        high = self.vram_high_percent
        if self.vram_target_percent >= high:
            raise ValidationError(
                _t(
                    "VRAM is freed from %(high)s %% on, down to less than that: choose a number "
                    "below %(high)s."
                )
                % {"high": high}
            )

    def _check_quiet_hours(self) -> None:
        self.quiet_hours = (self.quiet_hours or "").strip()
        if not self.quiet_hours:
            return
        times = read_times(self.quiet_hours, settings.TIME_ZONE)
        if times.is_always:
            raise ValidationError(
                _t(
                    "These quiet hours never end, so nothing would ever start by itself. Leave "
                    "some time free; to stop everything, hold all jobs instead."
                )
            )
        self.quiet_hours = times.text

    def _check_folders(self) -> None:
        folders = self.config_folders
        if not isinstance(folders, list) or not all(isinstance(each, str) for each in folders):
            raise ValidationError(_t("Give one folder per line, for example /etc/myapp."))
        folders = list(dict.fromkeys(stripped for each in folders if (stripped := each.strip())))
        if len(folders) > MOST_FOLDERS:
            raise ValidationError(
                _t("At most %(n)s folders; name one above several.") % {"n": MOST_FOLDERS}
            )
        wrong = [
            _t("Give the whole path, beginning with / (here: “%(path)s”).") % {"path": each[:80]}
            for each in folders
            if not each.startswith("/") or "\0" in each
        ]
        if wrong:
            raise ValidationError(wrong)
        self.config_folders = folders

    @property
    def missing_folders(self) -> list[str]:
        """Those of the folders to check that are not there, or may not be entered, right now.

        They may come later, so they are no fault of the rules; but whoever sets them should know.
        """
        return [each for each in self.config_folders if not _is_folder(each)]

    @classmethod
    def current(cls) -> Self:
        """Return the rules in force; the defaults when nobody has changed any."""
        return cls.objects.filter(pk=1).first() or cls(pk=1)

    @property
    def parallel(self) -> int:
        """How many runs may run at once on this host."""
        return self.max_parallel or settings.MAX_PARALLEL

    @property
    def is_held(self) -> bool:
        """Whether nothing starts until somebody resumes."""
        return self.hold != self.Hold.NO

    def store(self, *, now: datetime, by: str) -> Self:
        """Write changed rules; raises ValidationError. A hold is not among them: see `set_hold`."""
        self.full_clean()
        names = ("max_parallel", *KEPT, *WATCHED)
        rules: dict[str, Any] = {f: getattr(self, f) for f in names}
        rules |= {"updated_at": now, "updated_by": by}
        with transaction.atomic():
            before = Policy.objects.select_for_update().filter(pk=1).first() or Policy(pk=1)
            Policy.objects.update_or_create(pk=1, defaults=rules)
            ring()
            _tick()
            if changes := differing(before, self, names):
                Change.record(before, Change.Kind.EDITED, changes, now=now, by=by)
        return self

    def said_at(self, now: datetime) -> str:
        """Return what somebody has said of being here, as long as it holds; else ""."""
        over = self.presence_until is not None and self.presence_until <= now
        return "" if over else self.presence

    @classmethod
    def set_presence(
        cls, presence: str, *, now: datetime, by: str, until: datetime | None = None
    ) -> bool:
        """Say that somebody is here or away, or with "" nothing; return whether that is news.

        `until` is its end, SAID_FOR from now unless given. Raises ValidationError for an end that
        has passed, or is too far away to be remembered by whoever said it.
        """
        said: dict[str, Any] = {"presence": presence, "presence_until": None}
        if presence:
            said["presence_until"] = _checked_end(until or now + SAID_FOR, now)
        with transaction.atomic():
            rules, _made = cls.objects.get_or_create(pk=1)
            about = {"presence_at": now, "presence_by": by} if presence else NOBODY_SAID
            if not presence and not rules.presence:
                return False
            changed = cls.objects.filter(pk=1).exclude(**said).update(**said, **about)
            if changed:
                ring()
                told = differing(rules, cls(**said), ("presence", "presence_until"))
                what, subject = Change.Kind.SAID, Change.Subject.PRESENCE
                Change.record(rules, what, told, now=now, by=by, about=subject)
        return bool(changed)

    @classmethod
    def set_hold(cls, hold: str, *, now: datetime, by: str, note: str = "") -> bool:
        """Hold everything, or resume with ""; return whether that changed anything.

        What goes from "no new starts" to "everything stopped" keeps since when it is held, and its
        note unless it has its own.
        """
        with transaction.atomic():
            rules, _made = cls.objects.get_or_create(pk=1)
            held: dict[str, Any] = {"held_at": rules.held_at or now, "held_by": by}
            if note:
                held["hold_note"] = note[:200]
            if not hold:
                held = {"held_at": None, "held_by": "", "hold_note": ""}
            changed = cls.objects.filter(pk=1).exclude(hold=hold).update(hold=hold, **held)
            if changed:
                ring()
                told = differing(rules, cls(hold=hold, **held), ("hold", "hold_note"))
                what = Change.Kind.HELD if hold else Change.Kind.RELEASED
                Change.record(rules, what, told, now=now, by=by, about=Change.Subject.HOLD)
        return bool(changed)


def read_times(text: str, zone: str) -> windows.Windows:
    """Return the times of the week that `text` says; raise ValidationError with the way out.

    ScheduleError for a zone that does not exist.
    """
    try:
        return windows.parse(text, zone)
    except windows.WindowError as error:
        language = "en" if (get_language() or "de").startswith("en") else "de"
        raise ValidationError(f"{error.message(language)} {error.hint(language)}") from error


# A part of a host's name; underscores do occur in networks of containers.
LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")
IN_BRACKETS = re.compile(r"(?:[^@]*@)?\[[0-9A-Fa-f:.]+\](?::.*)?")


def _is_host(host: str) -> bool:
    """Return whether this can be a host: an address of IPv6, or a name of parts between dots."""
    if ":" in host:
        return True  # urlsplit has looked at what stands in brackets
    return all(LABEL.fullmatch(part) for part in host.removesuffix(".").split("."))


def _wrong_address(given: str) -> str:
    """Return what is wrong with the address of a service; "" when nothing is."""
    try:
        parts = urlsplit(given)
    except ValueError:  # brackets around what is no address of IPv6
        parts, brackets = urlsplit(""), True
    else:
        brackets = "[" in parts.netloc and not IN_BRACKETS.fullmatch(parts.netloc)
    try:
        port = parts.port
    except ValueError:
        port = 0
    for wrong, message in (
        (
            re.search(r"[\x00-\x20\x7f\\]", given),
            _t("An address has no blanks, control characters or backslashes."),
        ),
        (
            not re.match(r"https?://", given, re.IGNORECASE),
            _t("An address begins with http:// or https://."),
        ),
        (
            brackets or (parts.hostname and not _is_host(parts.hostname)),
            _t("The address names no host that there can be."),
        ),
        (port == 0, _t("A port is a number from 1 to 65535.")),
        (not parts.hostname, _t("The address names no host.")),
        ("@" in parts.netloc, _t("An address holds no user and no password.")),
        (
            "?" in given or "#" in given,
            _t("The address ends before “?” or “#”; what is asked for is added here."),
        ),
    ):
        if wrong:
            return message
    return ""


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


SAID_FOR = timedelta(hours=8)  # that somebody is here, or away
LONGEST_SAID = timedelta(days=7)
NOBODY_SAID: dict[str, Any] = {"presence_at": None, "presence_by": ""}


def _checked_end(until: datetime, now: datetime) -> datetime:
    if until <= now:
        raise ValidationError({"until": _t("This time has passed already.")})
    if until > now + LONGEST_SAID:
        raise ValidationError({"until": _t("At most 7 days from now.")})
    return until


KEPT = ("keep_days", "keep_runs", "keep_output_mb")
# What is looked at, and from when on it counts.
WATCHED = (
    *("gpu_service_url", "ollama_url", "slow_ms", "vram_high_percent", "vram_target_percent"),
    *("disk_low_gb", "idle_after_seconds", "foreign_load_percent", "watch_logins", "watch_gpu"),
    *("quiet_hours", "config_folders"),
)


class Pool(models.Model):
    """Something of which there is only so much: a run takes its weight while it runs."""

    name = models.CharField(_("name"), max_length=40, unique=True)
    size = models.PositiveIntegerField(
        _("size"), default=1, validators=[MinValueValidator(1), MaxValueValidator(10_000)]
    )
    description = models.CharField(_("description"), max_length=200, blank=True)
    updated_at = models.DateTimeField(editable=False)
    updated_by = models.CharField(max_length=150, blank=True, editable=False)

    class Meta:
        db_table = "daemon_pools"
        verbose_name = _("pool")
        verbose_name_plural = _("pools")
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.size})"

    def clean(self) -> None:
        """Refuse a name that can't be written as `name=weight`."""
        written, self.name = self.name, self.name.strip().lower()
        if written and not POOL_NAME.fullmatch(self.name):
            raise ValidationError(
                {
                    "name": _t(
                        "A pool's name begins with a letter and holds a-z, 0-9, - and _ only, "
                        "for example “gpu”."
                    )
                }
            )

    @classmethod
    def sizes(cls) -> dict[str, int]:
        """Return the size of every pool by its name."""
        return dict(cls.objects.values_list("name", "size"))

    def store(self, *, now: datetime, by: str) -> Self:
        """Write a new or changed pool; raises ValidationError.

        A pool may become smaller than what a job needs of it: that job's runs then wait with a
        reason, and its page says that it can't start.
        """
        self.full_clean(exclude=["updated_at"])
        self.updated_at, self.updated_by = now, by
        with transaction.atomic():
            before = Pool.objects.select_for_update().filter(pk=self.pk or 0).first()
            self.save()
            ring()
            changes = differing(before, self, ("name", "size", "description"))
            if changes or before is None:
                kind = Change.Kind.EDITED if before else Change.Kind.CREATED
                Change.record(self, kind, changes, now=now, by=by)
        return self

    def remove(self) -> None:
        """Delete the pool; runs that need it wait, and say for what."""
        gone = Pool(pk=self.pk, name=self.name)
        with transaction.atomic():
            self.delete()
            ring()
            Change.record(gone, Change.Kind.DELETED)


def ring() -> None:
    """Tell the daemon's threads and the open pages that rules have changed, after the commit."""
    live.changed("policy", "runs", "jobs", "presence")
    runtime = doorbell.runtime_dir(settings.DATA_DIR)
    transaction.on_commit(lambda: doorbell.ring(runtime, "beat"), robust=True)
    transaction.on_commit(lambda: doorbell.ring(runtime, "runner", b'{"op": "rules"}'), robust=True)
    transaction.on_commit(
        lambda: doorbell.ring(runtime, "presence", b'{"op": "look"}'), robust=True
    )


def _tick() -> None:
    """Have the health looked at by the new rules, after the commit."""
    runtime = doorbell.runtime_dir(settings.DATA_DIR)
    wish = b'{"op": "tick"}'
    transaction.on_commit(lambda: doorbell.ring(runtime, "pulse", wish), robust=True)
