"""The services that options of the product need, each started once, on the core of the load."""

import http.server
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time

import targets

START_SECONDS = 30
POSTGRES = "/usr/lib/postgresql"
COLLECTOR = "--collector"


class Services:
    """Starts what is asked for, and knows where it listens."""

    def __init__(self, launcher):
        self.launcher = launcher
        self.processes = []
        self.addresses = {}

    def address(self, name):
        if name not in self.addresses:
            self.addresses[name] = START[name](self)
        return self.addresses[name]

    def start(self, name, command, port, user=None):
        if user:
            command = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", *command]
        log = f"{name}.log"
        process = self.launcher.start(command, self.launcher.load_core, log)
        self.processes.append(process)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return f"127.0.0.1:{port}"
            except OSError:
                time.sleep(0.05)
        tail = (self.launcher.directory / log).read_text(errors="replace")[-2000:]
        raise targets.Missing(f"{name} did not start:\n{tail}")

    def stop(self):
        for process in reversed(self.processes):
            targets.end(process)


def redis(services):
    port = targets.free_port()
    program = shutil.which("valkey-server") or targets.find("redis-server")
    options = ["--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]
    return services.start("redis", [program, *options], port)


def postgres(services):
    versions = sorted(os.listdir(POSTGRES)) if os.path.isdir(POSTGRES) else []
    if not versions:
        raise targets.Missing("postgresql is not installed")
    programs = f"{POSTGRES}/{versions[-1]}/bin"
    directory = services.launcher.directory / "postgres"
    directory.mkdir()
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        # It refuses to run as root; others must reach its directory.
        os.chmod(services.launcher.directory, 0o755)
        entry = pwd.getpwnam(user)
        os.chown(directory, entry.pw_uid, entry.pw_gid)
    become = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user else []
    data = directory / "data"
    made = [*become, f"{programs}/initdb", "-D", data, "-U", "bench", "-A", "trust"]
    subprocess.run(list(map(str, made)), check=True, capture_output=True)
    port = targets.free_port()
    command = [f"{programs}/postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", directory]
    return services.start("postgres", command, port, user)


def clickhouse(services):
    program = shutil.which("clickhouse-server") or targets.find("clickhouse")
    directory = services.launcher.directory / "clickhouse"
    directory.mkdir()
    port, tcp = targets.free_port(), targets.free_port()
    (directory / "config.xml").write_text(CLICKHOUSE.format(dir=directory, port=port, tcp=tcp))
    (directory / "users.xml").write_text(CLICKHOUSE_USERS)
    server = [] if program.endswith("-server") else ["server"]
    command = [program, *server, f"--config-file={directory}/config.xml"]
    return services.start("clickhouse", command, port)


def collector(services):
    """Takes whatever is posted, and keeps nothing."""
    port = targets.free_port()
    return services.start("collector", [sys.executable, __file__, COLLECTOR, port], port)


START = {
    "redis": redis,
    "postgres": postgres,
    "clickhouse": clickhouse,
    "collector": collector,
}

CLICKHOUSE = """<yandex>
<logger><level>warning</level><log>{dir}/log</log><errorlog>{dir}/errors</errorlog></logger>
<http_port>{port}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
<path>{dir}/data/</path><tmp_path>{dir}/tmp/</tmp_path>
<users_config>{dir}/users.xml</users_config><mark_cache_size>5368709120</mark_cache_size>
<default_profile>default</default_profile><default_database>default</default_database>
</yandex>
"""
CLICKHOUSE_USERS = """<yandex>
<profiles><default></default></profiles><quotas><default></default></quotas>
<users><default><password></password><networks><ip>127.0.0.1</ip></networks>
<profile>default</profile><quota>default</quota></default></users>
</yandex>
"""


class Taker(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__" and COLLECTOR in sys.argv:
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[-1])), Taker).serve_forever()
