"""A script with a witness of all that it gets: `replayed.py <script> <log> [<constant> <text>]`.

Every request and its answer is a line of the log, with the bytes of the body as they came over the
wire. A constant of `job` may be given another text: that is the changed prompt.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import job

Json = dict[str, Any]
# What the SDKs speak HTTP with, whichever of them is installed.
LIBRARIES = ("httpx", "httpx2")
HEADERS = ("content-type", "content-encoding", "content-length", "x-aiops-call", "x-aiops-replayed")
NUMBERS = count(1)


class Witness:
    """Writes an exchange down once, when its answer ends or is left."""

    def __init__(self, log: Path, request: Any, response: Any) -> None:
        self.log, self.number, self.body, self.is_told = log, next(NUMBERS), b"", False
        self.known: Json = {
            # Without the tags that the launch put in front.
            "path": "/v1" + request.url.path.partition("/v1")[2],
            "asked": request.content.decode("latin-1"),
            "status": response.status_code,
            **{name: response.headers.get(name) for name in HEADERS},
        }

    def tell(self) -> None:
        if not self.is_told:
            self.is_told = True
            told = {"number": self.number, **self.known, "body": self.body.decode("latin-1")}
            with self.log.open("a") as log:
                log.write(json.dumps(told) + "\n")


def listen(library: Any, log: Path) -> None:
    class Heard(library.SyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, witness: Witness) -> None:
            self.stream, self.witness = stream, witness

        def __iter__(self) -> Iterator[bytes]:
            for piece in self.stream:
                self.witness.body += piece
                yield piece

        def close(self) -> None:
            self.witness.tell()
            self.stream.close()

    class HeardLater(library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, witness: Witness) -> None:
            self.stream, self.witness = stream, witness

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self.stream:
                self.witness.body += piece
                yield piece

        async def aclose(self) -> None:
            self.witness.tell()
            await self.stream.aclose()

    send = library.HTTPTransport.handle_request
    send_later = library.AsyncHTTPTransport.handle_async_request

    def heard(self: Any, request: Any) -> Any:
        response = send(self, request)
        response.stream = Heard(response.stream, Witness(log, request, response))
        return response

    async def heard_later(self: Any, request: Any) -> Any:
        response = await send_later(self, request)
        response.stream = HeardLater(response.stream, Witness(log, request, response))
        return response

    library.HTTPTransport.handle_request = heard
    library.AsyncHTTPTransport.handle_async_request = heard_later


def main() -> None:
    script, log, *changed = sys.argv[1:]
    if changed:
        name, text = changed
        assert hasattr(job, name)
        setattr(job, name, text)
    for library in filter(find_spec, LIBRARIES):
        listen(import_module(library), Path(log))
    runpy.run_path(str(Path(__file__).with_name(f"{script}.py")), run_name="__main__")


main()
