"""A machine that a sentry watches."""

import time
from collections.abc import Iterator

import pytest
from django.db import connections

from daemon_app.models import Node
from tests.clocks import Fake
from tests.presence.post import Post


@pytest.fixture
def post(tmp_path_factory: pytest.TempPathFactory, transactional_db: None) -> Iterator[Post]:
    clock = Fake(time=time.time())
    now = clock.now()
    Node.objects.create(host="here", pid=1, started_at=now, seen_at=now)
    post = Post(tmp_path_factory.mktemp("s"), clock)
    yield post
    post.relieve()
    post.runner.close()
    connections.close_all()
