#!/usr/bin/env bash
# Has real databases take what the proxy records: PostgreSQL and ClickHouse of Debian, and the engine of a
# current ClickHouse (chDB) behind a little server, since no registry has a current ClickHouse server.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${SINKS_HOME:-$HOME/.cache/open-aiops-sinks}

skip() {
    echo "SKIPPED: $1, so no sink was shown to work" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
}

# Nothing that an installation would start by itself, and nothing that was there before, is left changed.
install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || skip "$1 is not installed"
    local policy=/usr/sbin/policy-rc.d made=
    if ! [ -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made=1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null ||
        { [ -z "$made" ] || rm "$policy"; skip "$1 cannot be installed"; }
    [ -z "$made" ] || rm "$policy"
}

command -v python3 >/dev/null || skip "there is no python3"
[ "$(id -u)" = 0 ] || skip "only root can start databases as their own users"
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || install postgresql
command -v clickhouse-server >/dev/null || install clickhouse-server
command -v openssl >/dev/null || install openssl
if ! [ -f "$home/.pins" ] || ! cmp -s "$home/.pins" "$here/requirements.txt"; then
    python3 -m venv --clear "$home"
    "$home/bin/python" -m pip install --quiet -r "$here/requirements.txt" || skip "chdb cannot be installed"
    cp "$here/requirements.txt" "$home/.pins"
fi
PYTHONDONTWRITEBYTECODE=1 "$home/bin/python" "$here/check.py" "$1"
