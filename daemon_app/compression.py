"""Answers made smaller on their way: pages, JSON and static files, for whoever takes gzip.

That the length of a compressed page tells something of it (BREACH) helps nobody here: who would
measure has to make a signed-in browser ask for pages with words of his choice in them, and the
guard turns away what comes from another page, which sends no cookie besides (SameSite=Strict).
The one secret in a page, the form token, is masked anew in each answer, and Django adds a random
number of bytes.
"""

import gzip
from functools import partial
from typing import Any, cast

from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.gzip import GZipMiddleware, re_accepts_gzip
from django.utils.cache import patch_vary_headers
from whitenoise.middleware import WhiteNoiseMiddleware  # type: ignore[import-untyped]

TYPES = frozenset({"text/html", "text/css", "text/javascript", "image/svg+xml", "application/json"})
# Added to an ETag where the answer is compressed: another sequence of bytes, the same each time.
SUFFIX = "-gzip"
LEAST, MOST = 500, 2_000_000  # bytes; beyond that it would keep others waiting


def _is_worth_it(response: HttpResponseBase, size: int) -> bool:
    kind = response.get("Content-Type", "").partition(";")[0]
    return kind in TYPES and LEAST <= size <= MOST


class Compressed(GZipMiddleware):
    """Compress what is read: pages, fragments and JSON. Output goes as it was written."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """Return the answer, smaller if that is worth the work."""
        if not isinstance(response, HttpResponse):
            return response  # it is streamed: output, or a file
        if not _is_worth_it(response, len(response.content)):
            return response
        if response.has_header("ETag") and response.get("Content-Type") == "application/json":
            return _same_each_time(request, response)
        return super().process_response(request, response)


def _same_each_time(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Compress what has a strong ETag, without random bytes: JSON, in which no form token is."""
    patch_vary_headers(response, ("Accept-Encoding",))
    if not re_accepts_gzip.search(request.headers.get("Accept-Encoding", "")):
        return response
    response.content = gzip.compress(response.content, 6, mtime=0)
    response["Content-Length"] = str(len(response.content))
    response["Content-Encoding"] = "gzip"
    response["ETag"] = f'"{response["ETag"].strip(chr(34))}{SUFFIX}"'
    return response


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]
    """WhiteNoise that compresses: each file once, when it is asked for first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._small: dict[str, bytes] = {}
        self.serve = partial(self._serve, super().serve)

    def _serve(self, serve: Any, static_file: Any, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = serve(static_file, request)
        size = int(response.get("Content-Length", "0"))
        if response.status_code != 200 or not _is_worth_it(response, size):
            return response
        patch_vary_headers(response, ("Accept-Encoding",))
        if request.method != "GET" or not re_accepts_gzip.search(
            request.headers.get("Accept-Encoding", "")
        ):
            return response
        small = self._small.get(request.path_info)
        if small is None:
            small = gzip.compress(b"".join(cast("FileResponse", response)), 9, mtime=0)
            self._small[request.path_info] = small
        response.close()
        answer = HttpResponse(small)
        del answer["Content-Type"]
        for name, value in response.items():
            answer[name] = value
        answer["Content-Encoding"], answer["Content-Length"] = "gzip", str(len(small))
        return answer
