"""Settings: the rules for all jobs and the pools. Administrators change them, others read."""

from typing import Any

from django.conf import settings as configured
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from daemon_app import terms, tiles
from daemon_app.forms import PolicyForm, PoolForm, WatchForm
from daemon_app.models import Job, Policy, Pool
from daemon_app.permissions import requires
from daemon_app.views.errors import only_post
from daemon_app.views.page import page, see_other


@require_safe
@requires("view")
def settings(request: HttpRequest) -> HttpResponse:
    """Show the rules for all jobs and the pools."""
    return _shown(request)


@only_post
@requires("edit")
def policy(request: HttpRequest) -> HttpResponse:
    """Change how much runs at once and what is kept."""
    current = Policy.current()
    form = PolicyForm(request.POST, instance=current)
    if not form.is_valid():
        return _shown(request, policy_form=form)
    form.instance.store(now=timezone.now(), by=request.user.get_username())
    messages.success(request, _t("The settings have been saved."))
    return see_other(reverse("settings"))


@only_post
@requires("edit")
def watch(request: HttpRequest) -> HttpResponse:
    """Change what is looked at, when the machine is idle, and when it is to be quiet."""
    form = WatchForm(request.POST, instance=Policy.current())
    if not form.is_valid():
        return _shown(request, watch_form=form)
    form.instance.store(now=timezone.now(), by=request.user.get_username())
    messages.success(request, _t("The settings have been saved."))
    if missing := form.instance.missing_folders:
        said = ngettext(
            "This folder is not there, or may not be entered: %(folders)s.",
            "These folders are not there, or may not be entered: %(folders)s.",
            len(missing),
        )
        messages.warning(request, said % {"folders": ", ".join(missing)})
    return see_other(reverse("settings") + "#health")


@require_http_methods(["GET", "HEAD", "POST"])
@requires("edit")
def pool_new(request: HttpRequest) -> HttpResponse:
    """Add a pool."""
    if request.method != "POST":
        return see_other(reverse("settings") + "#pools")
    return _store_pool(request, Pool())


@require_http_methods(["GET", "HEAD", "POST"])
@requires("edit")
def pool(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a pool."""
    found = get_object_or_404(Pool, pk=pk)
    if request.method != "POST":
        context = {"form": PoolForm(instance=found), "pool": found}
        return page(request, "daemon/pool.html", context, section="settings", now=timezone.now())
    return _store_pool(request, found)


def _store_pool(request: HttpRequest, subject: Pool) -> HttpResponse:
    name = subject.name
    form = PoolForm(request.POST, instance=subject)
    stored = None
    if form.is_valid():
        try:
            stored = form.instance.store(now=timezone.now(), by=request.user.get_username())
        except ValidationError as error:
            form.add_error(None, error)
        except IntegrityError:
            form.add_error("name", form.fields["name"].error_messages["unique"])
    if stored:
        messages.success(request, _t("Pool “%(pool)s” has been saved.") % {"pool": stored.name})
        _warn(request, stored.name, stored.size)
        if name and name != stored.name:
            _warn(request, name, 0)
        return see_other(reverse("settings") + "#pools")
    if subject.pk:
        context = {"form": form, "pool": subject, "pool_name": name}
        now = timezone.now()
        return page(request, "daemon/pool.html", context, section="settings", now=now, status=422)
    return _shown(request, pool_form=form)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("edit")
def pool_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask, naming the jobs that need it, then delete a pool."""
    found = get_object_or_404(Pool, pk=pk)
    if request.method == "POST":
        found.remove()
        messages.success(request, _t("Pool “%(pool)s” has been deleted.") % {"pool": found.name})
        _warn(request, found.name, 0)
        return see_other(reverse("settings") + "#pools")
    users = _users([found])[found.name]
    context = {"pool": found, "users": users}
    return page(request, "daemon/pool_delete.html", context, section="settings", now=timezone.now())


def _warn(request: HttpRequest, pool: str, size: int) -> None:
    """Leave a warning with the jobs that need more than `size` of a pool."""
    if short := Job.objects.too_big(pool, size):
        said = ngettext(
            "This job can't start any more, it needs more of “%(pool)s”: %(jobs)s.",
            "These jobs can't start any more, they need more of “%(pool)s”: %(jobs)s.",
            len(short),
        )
        messages.warning(request, said % {"pool": pool, "jobs": ", ".join(map(str, short))})


def _users(pools: list[Pool]) -> dict[str, list[Job]]:
    """Return the jobs that need each pool."""
    users: dict[str, list[Job]] = {pool.name: [] for pool in pools}
    for job in Job.objects.exclude(pools={}).only("name", "pools").order_by("name"):
        for name in job.pools:
            if name in users:
                users[name].append(job)
    return users


def _shown(
    request: HttpRequest,
    *,
    policy_form: PolicyForm | None = None,
    watch_form: WatchForm | None = None,
    pool_form: PoolForm | None = None,
) -> HttpResponse:
    current, now = Policy.current(), timezone.now()
    pools = list(Pool.objects.all())
    users = _users(pools)
    context: dict[str, Any] = {
        "policy": current,
        "default_parallel": configured.MAX_PARALLEL,
        "policy_form": policy_form or PolicyForm(instance=current),
        "watch_form": watch_form or WatchForm(instance=current),
        "gpu_service_url": configured.GPU_SERVICE_URL,
        "ollama_url": configured.OLLAMA_URL,
        "opening": terms.opening(
            current.quiet_hours, configured.TIME_ZONE, now, tiles.current_language(), quiet=True
        ),
        "pool_form": pool_form or PoolForm(),
        "pools": [
            (
                pool,
                users[pool.name],
                [j for j in users[pool.name] if j.pools[pool.name] > pool.size],
            )
            for pool in pools
        ],
    }
    status = 422 if policy_form or watch_form or pool_form else 200
    return page(
        request,
        "daemon/settings.html",
        context,
        section="settings",
        now=now,
        status=status,
    )
