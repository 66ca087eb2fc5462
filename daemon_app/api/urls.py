"""Addresses of the REST interface. None ends in a slash."""

from typing import Any, ClassVar, NoReturn

from django.urls import path, re_path, reverse
from django.utils.translation import gettext as _t
from rest_framework.request import Request

from daemon_app.api import (
    audit,
    calendar,
    definitions,
    figures,
    find,
    health,
    incidents,
    jobs,
    mute,
    original,
    presence,
    queue,
    rules,
    runs,
    schedules,
    schema,
    starters,
    status,
    switch,
    tokens,
    transcript,
    why,
)
from daemon_app.api.endpoint import Endpoint
from daemon_app.api.errors import Problem


class Nowhere(Endpoint):
    """Every other address here: an answer in JSON, not the page a person would get."""

    schema = None
    rights: ClassVar = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), "view")
    conditional = frozenset(rights)  # that there is nothing is said whatever the conditions

    def get(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:
        """Say that there is nothing, or not yet."""
        below = request.path.removeprefix(reverse("api:jobs").removesuffix("jobs"))
        if later := original.not_yet(below):
            raise Problem(404, "not_in_this_version", later)
        message = _t("There is nothing at this address.")
        if request.path.endswith("/"):
            message += " " + _t("Addresses here have no slash at the end.")
        raise Problem(404, "not_found", message)

    post = put = patch = delete = get


app_name = "api"
urlpatterns = [
    path("jobs", jobs.Jobs.as_view(), name="jobs"),
    path("jobs/overview", figures.JobsOverview.as_view(), name="jobs-overview"),
    path("jobs/check", schedules.CheckJob.as_view(), name="check-job"),
    path("jobs/<int:pk>", jobs.OneJob.as_view(), name="job"),
    path("jobs/<int:pk>/copy", starters.CopyJob.as_view(), name="copy"),
    path("jobs/<int:pk>/check", schedules.CheckChange.as_view(), name="check-change"),
    path("jobs/<int:pk>/toggle", jobs.ToggleJob.as_view(), name="toggle"),
    path("jobs/<int:pk>/pause", jobs.PauseJob.as_view(), name="pause"),
    path("jobs/<int:pk>/mute", mute.MuteJob.as_view(), name="mute"),
    path("jobs/<int:pk>/run", jobs.RunJob.as_view(), name="start"),
    path("jobs/<int:pk>/figures", figures.FiguresOfJob.as_view(), name="figures"),
    path("jobs/<int:pk>/upcoming", calendar.UpcomingOfJob.as_view(), name="upcoming"),
    path("jobs/<int:pk>/changes", audit.ChangesOfJob.as_view(), name="changes-of-job"),
    path("jobs/<int:pk>/why", why.WhyJob.as_view(), name="why-job"),
    path("changes", audit.Changes.as_view(), name="changes"),
    path("schedules/preview", schedules.PreviewSchedule.as_view(), name="preview"),
    path("calendar", calendar.ReadCalendar.as_view(), name="calendar"),
    path("starters", starters.ListStarters.as_view(), name="starters"),
    path("starters/begin", starters.Begin.as_view(), name="begin"),
    path("export", definitions.Export.as_view(), name="export"),
    path("find", find.Find.as_view(), name="find"),
    path("runs", runs.Runs.as_view(), name="runs"),
    path("runs/<int:pk>", runs.ReadRun.as_view(), name="run"),
    path("runs/<int:pk>/log", runs.ReadLog.as_view(), name="log"),
    path("runs/<int:pk>/log/search", transcript.SearchLog.as_view(), name="search-log"),
    path("runs/<int:pk>/transcript", transcript.ReadTranscript.as_view(), name="transcript"),
    path("runs/<int:pk>/cancel", runs.CancelRun.as_view(), name="cancel"),
    path("runs/<int:pk>/force", runs.ForceRun.as_view(), name="force"),
    path("runs/<int:pk>/again", jobs.RunAgain.as_view(), name="again"),
    path("runs/<int:pk>/move", runs.MoveRun.as_view(), name="move"),
    path("runs/<int:pk>/why", why.WhyRun.as_view(), name="why-run"),
    path("queue", queue.ReadQueue.as_view(), name="queue"),
    path("hold", queue.HoldAll.as_view(), name="hold"),
    path("resume", queue.Resume.as_view(), name="resume"),
    path("start", switch.Start.as_view(), name="start-daemon"),
    path("stop", switch.Stop.as_view(), name="stop-daemon"),
    path("policy", rules.Rules.as_view(), name="policy"),
    path("pools", rules.Pools.as_view(), name="pools"),
    path("pools/<slug:name>", rules.ReadPool.as_view(), name="pool"),
    path("incidents", incidents.Incidents.as_view(), name="incidents"),
    path("incidents/<int:pk>/acknowledge", incidents.Acknowledge.as_view(), name="acknowledge"),
    path("audit", audit.Audit.as_view(), name="audit"),
    path("audit/export", audit.ExportAudit.as_view(), name="audit-export"),
    path("audit/verify", audit.VerifyAudit.as_view(), name="audit-verify"),
    path("tokens", tokens.AllTokens.as_view(), name="tokens"),
    path("tokens/<int:pk>", tokens.OneToken.as_view(), name="token"),
    path("tokens/<int:pk>/revoke", tokens.RevokeToken.as_view(), name="revoke"),
    path("health", health.ReadHealth.as_view(), name="health"),
    path("health/history", health.ReadHistory.as_view(), name="health-history"),
    path("idle/history", health.IdleHistory.as_view(), name="idle-history"),
    path("displacements", health.Displacements.as_view(), name="displacements"),
    path("skills", health.ListSkills.as_view(), name="skills"),
    path("activity", presence.Tell.as_view(), name="activity"),
    path("presence", presence.Presence.as_view(), name="presence"),
    path("status", status.ReadStatus.as_view(), name="status"),
    path("openapi.json", schema.OpenAPI.as_view(), name="openapi"),
    re_path(r"", Nowhere.as_view()),
]
