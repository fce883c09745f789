#!/usr/bin/env python3
"""A scripted OpenAI-compatible upstream on loopback that keeps a bill.

`GET /_bill` lists every request it answered with the usage it charged; `GET /_exchanges`
has what was asked and answered, by response id; `POST /_reset` empties both. Prints the
port it listens on.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import wire
from script import Json, Usage, answer, read_request, sha256, usage_for

# Long enough for a client that leaves at `[DONE]` to have left when the body ends.
END_PAUSE_SECONDS = 0.02
PATH_TAGS = re.compile(r"^((?:/(?:run|agent)/[^/]+)*)(/.*)$")


@dataclass(frozen=True)
class Endpoint:
    id_prefix: str
    render: Callable[[wire.Reply], Json]
    stream: Callable[[wire.Reply], Iterator[bytes]] | None = None


@dataclass
class BillEntry:
    """One answered request, as an honest upstream would put it on the invoice."""

    path: str
    path_tags: str
    headers: dict[str, str]
    authorization_sha256: str
    body_sha256: str
    id: str | None = None
    model: str | None = None
    response_model: str | None = None
    stream: bool = False
    include_usage: bool = False
    persona: str | None = None
    usage: Usage | None = None
    # Sent so far, of a stream.
    events: int = 0
    client_gone: bool = False


class Bill:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[BillEntry] = []
        self._exchanges: dict[str, Json] = {}

    def add(self, entry: BillEntry) -> None:
        with self._lock:
            self._entries.append(entry)

    def keep(self, reply: wire.Reply) -> None:
        with self._lock:
            self._exchanges[reply.id] = {"request": reply.body, "answer": asdict(reply.answer)}

    def reset(self) -> None:
        with self._lock:
            self._entries.clear()
            self._exchanges.clear()

    def exchanges(self) -> dict[str, Json]:
        with self._lock:
            return dict(self._exchanges)

    def to_json(self) -> list[Json]:
        with self._lock:
            return [asdict(entry) for entry in self._entries]


def chat_events(reply: wire.Reply) -> Iterator[bytes]:
    for chunk in wire.chat_chunks(reply):
        yield b"data: " + encode(chunk) + b"\n\n"
    yield b"data: [DONE]\n\n"


def responses_events(reply: wire.Reply) -> Iterator[bytes]:
    for event in wire.response_events(reply):
        yield b"event: " + event["type"].encode() + b"\ndata: " + encode(event) + b"\n\n"


ENDPOINTS = {
    "/v1/chat/completions": Endpoint("chatcmpl-", wire.chat_completion, chat_events),
    "/v1/responses": Endpoint("resp_", wire.response_object, responses_events),
    "/v1/embeddings": Endpoint("", wire.embeddings),
}


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Gzip:
    """Compresses so that each piece can be read when it arrives."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(wbits=31)

    def piece(self, data: bytes) -> bytes:
        return self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)

    def tail(self) -> bytes:
        return self._packer.flush()


class Identity:
    def piece(self, data: bytes) -> bytes:
        return data

    def tail(self) -> bytes:
        return b""


class Upstream(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, pace_ms: float, gzip: bool) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.bill = Bill()
        self.pace_seconds = pace_ms / 1000
        self.gzip = gzip


class Handler(BaseHTTPRequestHandler):
    server: Upstream
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        path, tags = self.split_path()
        if path == "/_bill":
            self.send_json(200, self.server.bill.to_json())
        elif path == "/_exchanges":
            self.send_json(200, self.server.bill.exchanges())
        elif path == "/v1/models":
            self.server.bill.add(self.bill_entry(path, tags, b""))
            self.send_json(200, wire.models())
        else:
            self.send_not_found()

    def do_POST(self) -> None:
        path, tags = self.split_path()
        body = self.read_body()
        if path == "/_reset":
            self.server.bill.reset()
            self.send_json(200, {})
        elif path in ENDPOINTS:
            self.answer_call(ENDPOINTS[path], self.bill_entry(path, tags, body), body)
        else:
            self.send_not_found()

    def answer_call(self, endpoint: Endpoint, entry: BillEntry, raw: bytes) -> None:
        reply, persona = make_reply(endpoint, raw)
        entry.id = reply.id if endpoint.id_prefix else None
        entry.model, entry.response_model = reply.body.get("model"), reply.model
        entry.persona, entry.usage = persona, reply.usage
        entry.include_usage = reply.wants_usage_chunk
        entry.stream = bool(reply.body.get("stream"))
        self.server.bill.add(entry)
        self.server.bill.keep(reply)
        try:
            if entry.stream and endpoint.stream:
                self.send_stream(endpoint.stream(reply), entry)
            else:
                self.send_json(200, endpoint.render(reply))
        except OSError:
            entry.client_gone = True
            self.close_connection = True

    def split_path(self) -> tuple[str, str]:
        """The API path, and the `/run/<id>/agent/<name>` in front of it."""
        found = PATH_TAGS.match(self.path.partition("?")[0])
        return (found.group(2), found.group(1)) if found else (self.path, "")

    def bill_entry(self, path: str, path_tags: str, body: bytes) -> BillEntry:
        return BillEntry(
            path=path,
            path_tags=path_tags,
            headers={
                name.lower(): value
                for name, value in self.headers.items()
                if name.lower().startswith("x-aiops-")
            },
            authorization_sha256=sha256(self.headers.get("authorization", "").encode()),
            body_sha256=sha256(body),
        )

    def read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join(self.read_chunks())
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def read_chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def coding(self) -> Gzip | Identity:
        accepted = self.headers.get("accept-encoding", "")
        return Gzip() if self.server.gzip and "gzip" in accepted else Identity()

    def send_head(self, status: int, coding: Gzip | Identity, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("x-request-id", f"req_{secrets.token_hex(8)}")
        if isinstance(coding, Gzip):
            self.send_header("content-encoding", "gzip")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_json(self, status: int, value: Any) -> None:
        coding = self.coding()
        data = coding.piece(encode(value)) + coding.tail()
        headers = {"content-type": "application/json", "content-length": str(len(data))}
        self.send_head(status, coding, headers)
        self.wfile.write(data)
        self.wfile.flush()

    def send_not_found(self) -> None:
        message = f"Invalid URL ({self.command} {self.path})"
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        self.send_json(404, {"error": error})

    def send_stream(self, events: Iterator[bytes], entry: BillEntry) -> None:
        coding = self.coding()
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "transfer-encoding": "chunked",
        }
        self.send_head(200, coding, headers)
        for event in events:
            self.send_chunk(coding.piece(event))
            entry.events += 1
            time.sleep(self.server.pace_seconds)
        time.sleep(END_PAUSE_SECONDS)
        self.end_stream(coding.tail())

    def end_stream(self, tail: bytes) -> None:
        """A client that left after the last event has everything: it is not marked as gone."""
        try:
            if tail:
                self.send_chunk(tail)
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the bill is the log."""


def make_reply(endpoint: Endpoint, raw: bytes) -> tuple[wire.Reply, str | None]:
    body: Json = json.loads(raw)
    unique = secrets.token_hex(16)
    if not endpoint.id_prefix:
        usage = Usage(len(raw) // 4 + int(unique[:2], 16), 0, 0, 0)
        return wire.Reply(unique, int(time.time()), body, wire.NO_ANSWER, usage), None
    request = read_request(body)
    answered = answer(request, unique)
    usage = usage_for(len(raw), answered, unique)
    reply = wire.Reply(endpoint.id_prefix + unique, int(time.time()), body, answered, usage)
    return reply, request.persona


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--pace-ms", type=float, default=2, help="pause between stream events")
    parser.add_argument("--gzip", action="store_true", help="compress where a client accepts it")
    options = parser.parse_args()
    server = Upstream(options.port, options.pace_ms, options.gzip)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
