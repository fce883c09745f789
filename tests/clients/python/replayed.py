"""A script with a witness of all that it gets: `replayed.py <script> <log> [<constant> <text>]`.

Every request and its answer is a line of the log, with the bytes of the body as they came over the
wire. A constant of `job` may be given another text: that is the changed prompt.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import job

Json = dict[str, Any]
NUMBERS = count(1)


class Witness:
    """Writes an exchange down once, when its answer ends or is left."""

    def __init__(self, log: Path, request: httpx.Request, response: httpx.Response) -> None:
        self.log, self.number, self.body, self.is_told = log, next(NUMBERS), b"", False
        self.known: Json = {
            "path": request.url.path,
            "asked": request.content.decode("latin-1"),
            "status": response.status_code,
            "content_type": response.headers.get("content-type"),
            "content_encoding": response.headers.get("content-encoding"),
            "content_length": response.headers.get("content-length"),
            "call": response.headers.get("x-aiops-call"),
            "replayed": response.headers.get("x-aiops-replayed"),
        }

    def tell(self) -> None:
        if not self.is_told:
            self.is_told = True
            told = {"number": self.number, **self.known, "body": self.body.decode("latin-1")}
            with self.log.open("a") as log:
                log.write(json.dumps(told) + "\n")


class Heard(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, witness: Witness) -> None:
        self.stream, self.witness = stream, witness

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.stream:
            self.witness.body += piece
            yield piece

    def close(self) -> None:
        self.witness.tell()
        self.stream.close()


class HeardLater(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, witness: Witness) -> None:
        self.stream, self.witness = stream, witness

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.stream:
            self.witness.body += piece
            yield piece

    async def aclose(self) -> None:
        self.witness.tell()
        await self.stream.aclose()


def listen(log: Path) -> None:
    send, send_later = (
        httpx.HTTPTransport.handle_request,
        httpx.AsyncHTTPTransport.handle_async_request,
    )

    def heard(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        response = send(self, request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = Heard(response.stream, Witness(log, request, response))
        return response

    async def heard_later(
        self: httpx.AsyncHTTPTransport, request: httpx.Request
    ) -> httpx.Response:
        response = await send_later(self, request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = HeardLater(response.stream, Witness(log, request, response))
        return response

    httpx.HTTPTransport.handle_request = heard  # type: ignore[method-assign]
    httpx.AsyncHTTPTransport.handle_async_request = heard_later  # type: ignore[method-assign]


def main() -> None:
    script, log, *changed = sys.argv[1:]
    if changed:
        name, text = changed
        assert hasattr(job, name)
        setattr(job, name, text)
    listen(Path(log))
    runpy.run_path(str(Path(__file__).with_name(f"{script}.py")), run_name="__main__")


main()
