"""A current ClickHouse behind its HTTP interface, as much of it as a sink speaks.

The engine is real (chDB has the sources of ClickHouse); sockets, users and statuses are done here.
"""

import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from chdb import session

USER, PASSWORD = "aiops", "secret"
SETTINGS = {"wait_end_of_query", "wait_for_async_insert"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode("utf-8")
        if (self.headers.get("x-clickhouse-user"), self.headers.get("x-clickhouse-key")) != (USER, PASSWORD):
            told = "Code: 516. DB::Exception: aiops: Authentication failed: password is incorrect"
            return self.answer(403, told, 516)
        asked = parse_qs(urlsplit(self.path).query)
        statement = asked.pop("query", [None])[0]
        if set(asked) - SETTINGS:
            return self.answer(404, f"Code: 115. DB::Exception: Unknown setting in {sorted(asked)}", 115)
        try:
            whole = body if statement is None else f"{statement}\n{body}"
            with self.server.turn:
                found = self.server.session.query(whole, "TabSeparated")
            self.answer(200, str(found))
        except Exception as error:
            code = re.search(r"Code: (\d+)", str(error))
            self.answer(500, str(error), code.group(1) if code else 1)

    def answer(self, status, text, code=None):
        text = text.encode("utf-8")
        self.send_response(status)
        if code is not None:
            self.send_header("x-clickhouse-exception-code", str(code))
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Quiet(ThreadingHTTPServer):
    """Connections that end when the proxy is killed are nothing to tell."""

    daemon_threads = True

    def handle_error(self, *_):
        pass


def main():
    port, path = int(sys.argv[1]), sys.argv[2]
    server = Quiet(("127.0.0.1", port), Handler)
    server.turn = threading.Lock()
    server.session = session.Session(path)
    print("ready", flush=True)
    server.serve_forever()


main()
