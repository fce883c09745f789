#!/usr/bin/env bash
# Has real databases take what the proxy records: PostgreSQL and ClickHouse of Debian, and the engine of a
# current ClickHouse (chDB) behind a little server, since no registry has a current ClickHouse server.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../packages.sh"
home=${SINKS_HOME:-$HOME/.cache/open-aiops-sinks}

skip() {
    echo "SKIPPED: $1, so no sink was shown to work" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
}

install() { install_packages "$1" || skip "$1 cannot be installed"; }

command -v python3 >/dev/null || skip "there is no python3"
[ "$(id -u)" = 0 ] || skip "only root can start databases as their own users"
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || install postgresql
command -v clickhouse-server >/dev/null || install clickhouse-server
command -v openssl >/dev/null || install openssl
python_environment "$home" "$here/requirements.txt" || skip "chdb cannot be installed"
PYTHONDONTWRITEBYTECODE=1 "$home/bin/python" "$here/check.py" "$1"
