"""Addresses below /daemon/."""

from django.urls import path

from daemon_app.views import access, jobs, overview, presence, queue, runs, settings, system

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("jobs/", jobs.jobs, name="jobs"),
    path("jobs/new/", jobs.new, name="job-new"),
    path("jobs/preview/", jobs.preview, name="job-preview"),
    path("jobs/conditions/", jobs.conditions, name="job-conditions"),
    path("jobs/<int:pk>/", jobs.job, name="job"),
    path("jobs/<int:pk>/edit/", jobs.edit, name="job-edit"),
    path("jobs/<int:pk>/start/", jobs.start, name="job-start"),
    path("jobs/<int:pk>/toggle/", jobs.toggle, name="job-toggle"),
    path("jobs/<int:pk>/delete/", jobs.delete, name="job-delete"),
    path("runs/", runs.runs, name="runs"),
    path("runs/<int:pk>/", runs.run, name="run"),
    path("runs/<int:pk>/output/", runs.output_text, name="run-output"),
    path("runs/<int:pk>/cancel/", runs.cancel, name="run-cancel"),
    path("runs/<int:pk>/force/", runs.force, name="run-force"),
    path("runs/<int:pk>/again/", runs.again, name="run-again"),
    path("runs/<int:pk>/attempts/<int:number>/log/", runs.attempt_log, name="attempt-log"),
    path("runs/<int:pk>/move/", queue.move, name="run-move"),
    path("queue/", queue.queue, name="queue"),
    path("hold/", queue.hold, name="hold"),
    path("resume/", queue.resume, name="resume"),
    path("presence/", presence.presence, name="presence"),
    path("incidents/<int:pk>/seen/", queue.seen, name="incident-seen"),
    path("system/", system.system, name="system"),
    path("settings/", settings.settings, name="settings"),
    path("settings/rules/", settings.policy, name="settings-rules"),
    path("settings/watch/", settings.watch, name="settings-watch"),
    path("settings/pools/new/", settings.pool_new, name="pool-new"),
    path("settings/pools/<int:pk>/", settings.pool, name="pool"),
    path("settings/pools/<int:pk>/delete/", settings.pool_delete, name="pool-delete"),
    path("icons.<slug:fingerprint>.svg", overview.sprite, name="icons"),
    path("login/", access.sign_in, name="login"),
    path("login/language/", access.language, name="language"),
    path("logout/", access.sign_out, name="logout"),
    path("password/", access.password, name="password"),
]
