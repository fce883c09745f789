#!/usr/bin/env bash
# A real Prometheus scrapes the given binary by our example configuration, and answers every query of the
# dashboard and of the alert rules. promtool tests the rules.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)

install() {
    command -v prometheus >/dev/null && command -v promtool >/dev/null && return
    [ -n "${CI:-}" ] && command -v apt-get >/dev/null || return 0
    # The package starts a server of its own, which is not the one that is tested.
    local policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=$policy; }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null
    [ -z "${made:-}" ] || rm -f "$made"
}

install
if ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null || ! command -v python3 >/dev/null; then
    echo "SKIPPED: no prometheus, promtool or python3, so no query was asked of a real one" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi
promtool check rules "$repo/deploy/prometheus/alerts.yml"
promtool test rules "$here/alerts.test.yml"
python3 "$here/check.py" "$(realpath "$1")"
