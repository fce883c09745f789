"""Databases on loopback, each in a directory of its own, that can be stopped and started."""

import glob
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException

USER, PASSWORD = "aiops", "secret"
WITHIN = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, done, within=WITHIN):
    """What `done` gives once that is true."""
    deadline = time.monotonic() + within
    while True:
        found = done()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {within} s"
        time.sleep(0.1)


class Postgres:
    kind, schema = "postgres", "open_aiops"

    def __init__(self, home):
        self.home, self.port = pathlib.Path(home), free_port()
        self.bin = pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))[-1]).parent
        self.home.mkdir()
        self.certificate = self.home / "server.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
            + ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
            + ["-keyout", self.home / "server.key", "-out", self.certificate],
            check=True, stderr=subprocess.DEVNULL,
        )
        (self.home / "password").write_text(PASSWORD)
        shutil.chown(self.home, "postgres")
        for file in self.home.iterdir():
            shutil.chown(file, "postgres")
        os.chmod(self.home / "server.key", 0o600)
        self.as_postgres(
            self.bin / "initdb", "-D", self.home / "data", "-U", USER, "-E", "UTF8", "--locale=C.UTF-8",
            "--auth=scram-sha-256", f"--pwfile={self.home / 'password'}", "--no-sync",
        )
        with open(self.home / "data" / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(
                f"listen_addresses='127.0.0.1'\nport={self.port}\nunix_socket_directories='{self.home}'\n"
                f"ssl=on\nssl_cert_file='{self.certificate}'\nssl_key_file='{self.home / 'server.key'}'\n"
            )
        self.start()

    def as_postgres(self, *command):
        command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, cwd=self.home, stdout=subprocess.DEVNULL)

    def start(self):
        self.as_postgres(self.bin / "pg_ctl", "-D", self.home / "data", "-l", self.home / "log", "-w", "start")

    def stop(self, hard=False):
        mode = "immediate" if hard else "fast"
        self.as_postgres(self.bin / "pg_ctl", "-D", self.home / "data", "-m", mode, "-w", "stop")

    def url(self, password=PASSWORD):
        return f"postgres://{USER}:{password}@localhost:{self.port}/postgres?sslmode=verify-full"

    def run(self, sql):
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]
        command += ["-p", str(self.port), "-U", USER, "-d", "postgres"]
        env = {**os.environ, "PGPASSWORD": PASSWORD}
        done = subprocess.run(command, input=sql, env=env, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, f"{sql}\n{done.stderr}"
        return done.stdout

    def rows(self, sql, parse_float=None):
        lines = self.run(f"SELECT to_jsonb(t) FROM ({sql.strip().rstrip(';')}) AS t").splitlines()
        return [json.loads(line, parse_float=parse_float) for line in lines]

    def table(self, name):
        return f"{self.schema}.{name}"


class Http:
    """A ClickHouse: what differs is the process."""

    schema = "open_aiops"

    def stop(self, hard=False):
        self.process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
        self.process.wait()

    def url(self, password=PASSWORD):
        return f"http://{USER}:{password}@127.0.0.1:{self.port}"

    def run(self, sql):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", sql.encode("utf-8"), method="POST")
        request.add_header("x-clickhouse-user", USER)
        request.add_header("x-clickhouse-key", PASSWORD)
        try:
            with urllib.request.urlopen(request, timeout=WITHIN) as answer:
                return answer.read().decode("utf-8")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{sql}\n{error.read().decode('utf-8')}") from error

    def rows(self, sql, parse_float=None):
        lines = self.run(f"{sql.strip().rstrip(';')} FORMAT JSONEachRow").splitlines()
        return [json.loads(line, parse_float=parse_float) for line in lines]

    def table(self, name):
        return f"{self.schema}.{name} FINAL"

    def is_up(self):
        assert self.process.poll() is None, f"it ended with {self.process.returncode}"
        try:
            return self.run("SELECT 1").strip() == "1"
        except (OSError, HTTPException):
            return False


class OldClickHouse(Http):
    kind = "clickhouse of Debian"

    CONFIG = """<yandex><logger><level>warning</level><console>1</console></logger>
<http_port>{port}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
<path>{home}/data/</path><tmp_path>{home}/tmp/</tmp_path><users_config>users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database>
<mark_cache_size>268435456</mark_cache_size></yandex>"""
    USERS = """<yandex><profiles><default/></profiles><quotas><default/></quotas><users><aiops>
<password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
<quota>default</quota></aiops></users></yandex>"""

    def __init__(self, home):
        self.home, self.port = pathlib.Path(home), free_port()
        for part in ("data", "tmp"):
            (self.home / part).mkdir(parents=True)
        config = self.CONFIG.format(port=self.port, tcp=free_port(), home=self.home)
        (self.home / "config.xml").write_text(config)
        (self.home / "users.xml").write_text(self.USERS)
        self.start()

    def start(self):
        with open(self.home / "log", "a", encoding="utf-8") as log:
            command = ["clickhouse-server", f"--config-file={self.home / 'config.xml'}"]
            self.process = subprocess.Popen(command, cwd=self.home, stdout=log, stderr=log)
        wait_for("ClickHouse starts", self.is_up)


class CurrentClickHouse(Http):
    kind = "current clickhouse"

    def __init__(self, home):
        self.home, self.port = pathlib.Path(home), free_port()
        self.home.mkdir()
        self.start()

    def start(self):
        server = pathlib.Path(__file__).with_name("current.py")
        with open(self.home / "log", "a", encoding="utf-8") as log:
            command = [sys.executable, server, str(self.port), self.home / "data"]
            self.process = subprocess.Popen(command, cwd=self.home, stdout=log, stderr=log)
        wait_for("the current ClickHouse starts", self.is_up)
