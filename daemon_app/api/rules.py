"""The rules for all jobs, and the pools of what there is only so much of."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import transaction
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _t
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import admission
from daemon_app.api import preconditions, serializers
from daemon_app.api.endpoint import Endpoint, asking
from daemon_app.api.errors import Fields, by_field, refused
from daemon_app.api.fields import Strict
from daemon_app.api.schema import answers
from daemon_app.api.serializers import OnePool, PolicySerializer, PoolChange, PoolSerializer
from daemon_app.models import Job, Policy, Pool


class Rules(Endpoint):
    """The rules for all jobs."""

    rights: ClassVar = {"GET": "view", "PUT": "edit", "PATCH": "edit"}
    conditional = frozenset({"PUT", "PATCH"})

    @extend_schema(
        operation_id="read_policy",
        summary="Read the rules for all jobs",
        tags=["rules"],
        responses=answers({200: PolicySerializer}),
    )
    def get(self, request: Request) -> Response:
        """Return the rules in force."""
        return self._shown()

    @extend_schema(
        operation_id="replace_policy",
        summary="Replace the rules for all jobs",
        tags=["rules"],
        request=PolicySerializer,
        examples=[OpenApiExample("Eight at once", {"max_parallel": 8}, request_only=True)],
        responses=answers({200: PolicySerializer}, changes=True),
    )
    def put(self, request: Request) -> Response:
        """Set all rules; what is left out gets its default."""
        return self._store(request, _writable(PolicySerializer()))

    @extend_schema(
        operation_id="change_policy",
        summary="Change rules for all jobs",
        tags=["rules"],
        request=PolicySerializer,
        examples=[OpenApiExample("Keep less", {"keep_days": 30}, request_only=True)],
        responses=answers({200: PolicySerializer}, changes=True),
    )
    def patch(self, request: Request) -> Response:
        """Change the rules that are given; they hold at once."""
        return self._store(request, ())

    def _store(self, request: Request, anew: Iterable[str]) -> Response:
        """Set what the request says, and the rules `anew` to their defaults."""
        values, wrong = PolicySerializer().read(request.data)
        with transaction.atomic():
            # All rules are written together: nobody else may change another one meanwhile.
            Policy.objects.get_or_create(pk=1)
            policy = Policy.objects.select_for_update().get(pk=1)
            preconditions.require(request, preconditions.version_of_rules(policy))
            defaults = {name: getattr(Policy(), name) for name in anew}
            _apply(policy, defaults | values, wrong)
            policy.store(now=self.now, by=asking(request))
        return self._shown()

    def _shown(self) -> Response:
        policy = Policy.current()
        self.version = preconditions.version_of_rules(policy)
        return Response(PolicySerializer(policy).data)


class Pools(Endpoint):
    """All pools."""

    rights: ClassVar = {"GET": "view", "POST": "edit"}

    @extend_schema(
        operation_id="list_pools",
        summary="List pools",
        tags=["rules"],
        responses=answers({200: serializers.Pools}),
    )
    def get(self, request: Request) -> Response:
        """Return all pools by name, with what is taken of each."""
        pools = PoolSerializer(Pool.objects.all(), many=True, context=_taken())
        return Response({"pools": pools.data})

    @extend_schema(
        operation_id="create_pool",
        summary="Create a pool",
        tags=["rules"],
        request=PoolSerializer,
        examples=[OpenApiExample("One GPU", {"name": "gpu", "size": 1}, request_only=True)],
        responses=answers({201: OnePool}, 409, changes=True),
    )
    def post(self, request: Request) -> Response:
        """Create a pool."""
        values, wrong = PoolSerializer().read(request.data)
        pool = _apply(Pool(), values, wrong).store(now=self.now, by=asking(request))
        where = reverse("api:pool", args=[pool.name])
        answer = _shown(self, pool, status=201)
        answer["Location"] = answer["Content-Location"] = where
        return answer


class ReadPool(Endpoint):
    """One pool."""

    rights: ClassVar = {"GET": "view", "PUT": "edit", "PATCH": "edit", "DELETE": "edit"}
    conditional = frozenset({"PUT", "PATCH", "DELETE"})

    @extend_schema(
        operation_id="read_pool",
        summary="Read a pool",
        tags=["rules"],
        responses=answers({200: OnePool}, 404),
    )
    def get(self, request: Request, name: str) -> Response:
        """Return a pool, with the jobs that are too big for it."""
        return _shown(self, get_object_or_404(Pool, name=name))

    @extend_schema(
        operation_id="put_pool",
        summary="Create or replace a pool",
        tags=["rules"],
        request=PoolChange,
        examples=[OpenApiExample("Two", {"size": 2}, request_only=True)],
        responses=answers(
            {200: OnePool, 201: OpenApiResponse(OnePool, "There was none of this name.")},
            404,
            409,
            changes=True,
        ),
    )
    def put(self, request: Request, name: str) -> Response:
        """Set a pool; what is left out gets its default.

        With “If-None-Match: *” it is only created.
        """
        values, wrong = PoolChange().read(request.data)
        for field in _writable(PoolChange()):
            values.setdefault(field, getattr(Pool(), field))
        with transaction.atomic():
            there = Pool.objects.select_for_update().filter(name=name).first()
            present = preconditions.version_of_pool(there) if there else None
            preconditions.require(request, present)
            if there is None and name != name.lower():
                # It would be kept in small letters, at another address than this one.
                raise refused({"name": [_t("Write the name of a pool in small letters.")]})
            pool = _apply(there or Pool(name=name), values, wrong)
            pool.store(now=self.now, by=asking(request))
        answer = _shown(self, pool, status=200 if there else 201)
        if there is None:
            answer["Location"] = reverse("api:pool", args=[name])
        return answer

    @extend_schema(
        operation_id="change_pool",
        summary="Change a pool",
        tags=["rules"],
        request=PoolSerializer(partial=True),
        examples=[OpenApiExample("Two", {"size": 2}, request_only=True)],
        responses=answers({200: OnePool}, 404, changes=True),
    )
    def patch(self, request: Request, name: str) -> Response:
        """Change what is given, its name too: it is then found under that one alone.

        Jobs that need more than there is then, or the name it had, are told in the answer.
        """
        values, wrong = PoolSerializer().read(request.data)
        with transaction.atomic():
            pool = _apply(_locked(request, name), values, wrong)
            pool.store(now=self.now, by=asking(request))
        answer = _shown(self, pool)
        if pool.name != name:
            answer.data["impossible_jobs"] += _too_big(name, 0)
            answer["Content-Location"] = reverse("api:pool", args=[pool.name])
        return answer

    @extend_schema(
        operation_id="delete_pool",
        summary="Delete a pool",
        tags=["rules"],
        request=None,
        responses=answers({200: serializers.GonePool}, 404, changes=True),
    )
    def delete(self, request: Request, name: str) -> Response:
        """Delete a pool; the answer names the jobs that can't start without it."""
        with transaction.atomic():
            _locked(request, name).remove()
        return Response({"name": name, "impossible_jobs": _too_big(name, 0)})


def _writable(of: Strict) -> list[str]:
    return [name for name, field in of.fields.items() if not field.read_only]


def _apply(row: Any, values: dict[str, Any], wrong: Fields) -> Any:
    """Set `values` on a row to be stored. Raises Problem with all that is wrong at once."""
    for name, value in values.items():
        setattr(row, name, value)
    if not wrong:
        return row
    try:
        row.full_clean(exclude=["updated_at"])
    except ValidationError as error:
        wrong = by_field(error) | wrong
    raise refused(wrong)


def _locked(request: Request, name: str) -> Pool:
    """Return a pool that nobody else changes until the transaction ends, if it is as wished."""
    pool = get_object_or_404(Pool.objects.select_for_update(), name=name)
    preconditions.require(request, preconditions.version_of_pool(pool))
    return pool


def _taken() -> dict[str, Any]:
    room, _running = admission.current_room()
    return {"taken": room.of_pool}


def _shown(view: Endpoint, pool: Pool, *, status: int = 200) -> Response:
    view.version = preconditions.version_of_pool(pool)
    told = PoolSerializer(pool, context=_taken()).data
    too_big = _too_big(pool.name, pool.size)
    return Response({**told, "impossible_jobs": too_big}, status=status)


def _too_big(name: str, size: int) -> list[dict[str, Any]]:
    return [
        {"id": job.pk, "name": job.name, "need": job.pools[name]}
        for job in Job.objects.too_big(name, size)
    ]
