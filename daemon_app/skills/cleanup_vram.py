"""Free GPU memory: unload the models that have been unused longest, down to the target."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import checks, doorbell, fetch
from daemon_app.checks.service import shown, why_not
from daemon_app.models import Snapshot, reasons
from daemon_app.readings import Reading
from daemon_app.skills.skill import (
    ERROR,
    WARN,
    Context,
    Due,
    Failure,
    Result,
    Situation,
    Skill,
    kept,
    registered,
)

OLLAMA: Final = "ollama"
UNUSED: Final = timedelta(seconds=30)  # what was used more recently stays
OLLAMAS_KEEP_ALIVE: Final = timedelta(minutes=5)  # unless it is told otherwise
PAUSE: Final = timedelta(minutes=5)  # after a run that could free nothing; doubled each time
LONGEST_PAUSE: Final = timedelta(hours=1)
FOR_A_CALL: Final = 20.0  # seconds
UNTIL_GONE: Final = 5.0  # seconds that memory may take to be free
FOR_AN_EVICTION: Final = 10.0  # seconds that the service may take for its own
LOOK_EVERY: Final = 0.25  # seconds
TICKS_BACK: Final = 240  # looked at for the last use of Ollama's models


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model; `last_used` is None where nobody can say."""

    backend: str
    name: str
    vram_mb: int
    in_use: bool
    last_used: datetime | None
    is_ollamas: bool = False  # listed by Ollama, and not by the GPU service

    def __str__(self) -> str:
        # A line of output, whatever a service calls its models.
        return fetch.shortened(f"{self.backend}/{self.name}")

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.backend, self.name


@registered
class CleanupVram(Skill):
    """Unloads models while too much VRAM is used; never one that is in use."""

    name = "cleanup_vram"
    title = _("Clean up VRAM")
    description = _("Unloads the models that have been unused longest when VRAM is nearly full.")
    in_quiet_hours = True
    timeout_seconds = 300

    def is_due(self, situation: Situation) -> Due | None:
        """Say so when VRAM is high, and longer after runs that could free nothing."""
        vram = situation.readings.get("vram")
        limit = situation.policy.vram_high_percent
        if vram is None or vram.value is None or vram.value <= limit:
            return None
        if not _may_free_some(situation):
            return None  # a run would only tell so, and the next one be put off
        last = situation.runs[0].ended_at if situation.runs else None
        if last is not None:
            # What was measured before the last run's end says nothing of what it has left.
            in_vain = kept(self.name).get("in_vain", 0)
            pause = (
                min(PAUSE * 2 ** min(in_vain - 1, 10), LONGEST_PAUSE) if in_vain else timedelta(0)
            )
            if situation.now <= last + pause or not situation.has_rested(PAUSE, LONGEST_PAUSE):
                return None
        return Due("due_vram", {"percent": round(vram.value), "limit": limit})

    def run(self, context: Context) -> Result:
        """Unload until the target is reached or nothing is left that may go."""
        work = _Work(context)
        begin = work.settled()
        target = context.policy.vram_target_percent
        if begin.facts.get("evicting"):
            return Result(_t("The GPU service is freeing memory itself."), data=work.data(begin))
        context.say(
            _t("%(used)s of %(total)s MB are used (%(percent)s %%); the target is %(target)s %%.")
            % {
                "used": begin.facts.get("used_mb"),
                "total": begin.facts.get("total_mb"),
                "percent": round(begin.value or 0),
                "target": target,
            }
        )
        end = begin
        while (end.value or 0) > target:
            context.make_way()
            model = next(work.candidates(end), None)
            if model is None:
                break
            end = work.unload(model, end)
        return work.result(begin, end, target)


class _Work:
    """One run: what was tried, freed and not freed."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._looks = checks.Context(
            now=context.now,
            policy=context.policy,
            runtime=doorbell.runtime_dir(settings.DATA_DIR),
        )
        self._tried: set[tuple[str, str]] = set()
        self._told: set[str] = set()
        self._freed: list[Model] = []
        self._failed: list[Model] = []

    # ── Looking ──────────────────────────────────────────────────────────────────────────────────
    def vram(self) -> Reading:
        """Return the share of VRAM that is used; raises Failure where that can't be known."""
        found = checks.CHECKS["vram"].look(self._looks)
        if found.value is None:
            raise Failure(_t("It is not known how much VRAM is used; nothing was unloaded."))
        return found

    def settled(self) -> Reading:
        """Return the same, once the service has ended an eviction of its own."""
        for _again in range(int(FOR_AN_EVICTION / LOOK_EVERY)):
            found = self.vram()
            if not found.facts.get("evicting"):
                break
            self.context.stop_event.wait(LOOK_EVERY)
            self.context.make_way()
        return found

    def loaded(self, vram: Reading) -> list[Model]:
        """Return all models that the service and Ollama say are loaded."""
        models = [_of_service(row) for row in vram.facts.get("models") or ()]
        listed = checks.CHECKS[OLLAMA].look(self._looks).facts.get("models") or ()
        # A service that looks after Ollama's models too lists them itself.
        known = {model.name for model in models}
        return models + [_of_ollama(row) for row in listed if row["model"] not in known]

    def candidates(self, vram: Reading) -> Iterator[Model]:
        """Yield what may go, unused longest first; what nobody knows the use of comes last."""
        now = timezone.now()
        free = []
        for model in self.loaded(vram):
            if model.key in self._tried or not model.vram_mb:
                continue
            if why := _stays(model, now):
                if why not in self._told:
                    self._told.add(why)
                    self.context.say(why)
            else:
                free.append(model)
        latest = datetime.max.replace(tzinfo=UTC)
        yield from sorted(free, key=lambda each: (each.last_used or latest, -each.vram_mb))

    # ── Unloading ────────────────────────────────────────────────────────────────────────────────
    def unload(self, model: Model, before: Reading) -> Reading:
        """Unload one model, and return what VRAM is used then; an error is said and noted."""
        self._tried.add(model.key)
        if error := self._ask(model):
            self._failed.append(model)
            about = {"model": model, "error": error}
            self.context.say(_t("%(model)s was not unloaded: %(error)s") % about)
            return self.vram()
        after, is_gone = before, False
        for _again in range(int(UNTIL_GONE / LOOK_EVERY)):
            after = self.vram()
            is_gone = all(each.key != model.key for each in self.loaded(after))
            if is_gone:
                break
            self.context.stop_event.wait(LOOK_EVERY)
            self.context.make_way()
        if not is_gone:
            self._failed.append(model)
            self.context.say(
                _t("%(model)s is still there, although it was unloaded.") % {"model": model}
            )
            return after
        self._freed.append(model)
        self.context.say(
            _t("%(model)s unloaded: %(freed)s MB (%(percent)s %% used now)")
            % {"model": model, "freed": model.vram_mb, "percent": round(after.value or 0)}
        )
        return after

    def _ask(self, model: Model) -> str:
        """Have the model unloaded; return what went wrong in words of ours, "" when nothing did.

        What the service said of it is nothing for everybody who may read the output.
        """
        if model.is_ollamas:
            service, path = self._looks.ollama_url, "/api/generate"
            body: dict[str, Any] = {"model": model.name, "keep_alive": 0, "stream": False}
        else:
            backend = quote(model.backend, safe="")
            service, path = self._looks.gpu_service_url, f"/api/{backend}/unload"
            body = {"model": model.name, "model_id": model.name}
        answer = fetch.post(f"{service}{path}", body, seconds=FOR_A_CALL)
        told = answer.json if isinstance(answer.json, dict) else {}
        if answer.kind is not fetch.Kind.OK:
            facts = {"url": shown(service), "seconds": FOR_A_CALL, "status": answer.status}
            return reasons.sentence(why_not(answer), facts)
        return _t("The service says that it could not.") if told.get("success") is False else ""

    # ── Telling ──────────────────────────────────────────────────────────────────────────────────
    def data(self, begin: Reading, end: Reading | None = None) -> dict[str, Any]:
        """Return what the journal keeps."""
        end = end or begin
        return {
            "freed_mb": sum(model.vram_mb for model in self._freed),
            "percent_before": begin.value,
            "percent_after": end.value,
            "unloaded": [str(model) for model in self._freed],
            "failed": [str(model) for model in self._failed],
        }

    def result(self, begin: Reading, end: Reading, target: int) -> Result:
        """Say what was freed, and note when that was nothing."""
        data = self.data(begin, end)
        about = {
            "freed": data["freed_mb"],
            "n": len(self._freed),
            "before": round(begin.value or 0),
            "after": round(end.value or 0),
            "target": target,
        }
        is_high = (end.value or 0) > self.context.policy.vram_high_percent
        in_vain = self.context.kept().get("in_vain", 0) + 1 if is_high and not self._freed else 0
        self.context.keep({"in_vain": in_vain})
        if (begin.value or 0) <= target:
            return Result(_t("Nothing to free: %(before)s %% are used.") % about, data=data)
        if not self._freed:
            said = _t("Nothing could be freed: %(before)s %% are used.") % about
            return Result(said, ERROR if self._failed else WARN, data)
        said = _t("%(freed)s MB freed: %(before)s %% → %(after)s %%.") % about
        if (end.value or 0) > target:
            said += " " + _t("The target of %(target)s %% was not reached.") % about
        return Result(said, WARN if self._failed or is_high else "info", data)


def _may_free_some(situation: Situation) -> bool:
    """Return whether by the newest readings some model might go; a run looks more closely."""
    ollama = situation.readings.get(OLLAMA)
    if ollama is not None and ollama.facts.get("models"):
        return True
    listed = situation.readings["vram"].facts.get("models") or ()
    models = [_of_service(row) for row in listed]
    return not models or any(not _stays(model, situation.now) for model in models)


def _stays(model: Model, now: datetime) -> str:
    """Return why a model is not to be unloaded; "" when it may be."""
    if model.in_use:
        return _t("%(model)s stays: it is in use.") % {"model": model}
    if model.last_used is None and model.is_ollamas:
        return _t("%(model)s stays: it is not known when it was used last.") % {"model": model}
    if model.last_used and now - model.last_used < UNUSED:
        return _t("%(model)s stays: it was used just now.") % {"model": model}
    return ""


# ── What others say of their models ──────────────────────────────────────────────────────────────
def _of_service(row: Mapping[str, Any]) -> Model:
    return Model(
        row["backend"],
        row["model"],
        row["vram_mb"],
        bool(row["in_use"]),
        _instant(row["last_used"]),
    )


def _of_ollama(row: Mapping[str, Any]) -> Model:
    """Return a model of Ollama's, which does not say when it was used.

    It says until when it stays, and moves that with the end of each call. An instant that has
    passed means that a call is running.
    """
    now = timezone.now()
    expires = _instant(row["expires_at"])
    in_use = expires is not None and expires <= now
    last_used = _last_seen_to_move(row, now)
    if last_used is None and expires is not None and expires - OLLAMAS_KEEP_ALIVE <= now:
        last_used = expires - OLLAMAS_KEEP_ALIVE
    return Model(OLLAMA, row["model"], row["vram_mb"], in_use, last_used, is_ollamas=True)


def _last_seen_to_move(row: Mapping[str, Any], now: datetime) -> datetime | None:
    """Return when the ticks have last seen a model stay until another instant; None: no tick has.

    That is `now` when the newest tick has seen another than there is now.
    """
    moved = None
    ticks = Snapshot.objects.of_ticks().filter(at__lte=now).order_by("-at")
    for snapshot in ticks[:TICKS_BACK]:
        reading = snapshot.read().get(OLLAMA)
        if reading is None or reading.facts.get("models") is None:
            continue
        seen = {each["model"]: each.get("expires_at") for each in reading.facts["models"]}
        if seen.get(row["model"]) != row["expires_at"]:
            return moved or now
        moved = snapshot.at
    return moved


def _instant(value: object) -> datetime | None:
    """Return what a service means by an instant: seconds since 1970, or ISO 8601."""
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC) if value > 1e9 else None
        # Go writes nine digits, of which Python takes six.
        found = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return found.astimezone(UTC)
