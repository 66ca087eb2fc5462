"""The ASGI application: the guard around pages, REST and the websocket."""

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bachweb.settings")
pages: Any = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402 - needs Django to be set up

from daemon_app.api.streams import Followed  # noqa: E402
from daemon_app.consumers import websocket  # noqa: E402
from daemon_app.guard import Guard  # noqa: E402

application = Guard(ProtocolTypeRouter({"http": Followed(pages), "websocket": websocket}))
