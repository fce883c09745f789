# Sourced by .ci/run and by the run.sh of each test: packages of Debian, and Python environments.
# shellcheck shell=bash

# Of `package:command` those packages whose command is not there, one a line.
missing_packages() {
    local package
    for package in "$@"; do
        command -v "${package#*:}" >/dev/null || echo "${package%%:*}"
    done
}

# Installs packages. Nothing that they bring starts by itself: a test starts what it tests. In a subshell, so
# that the guard goes however that ends.
install_packages() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing: $*; only root can install packages, and only with apt-get" >&2
        return 1
    fi
    (
        policy=/usr/sbin/policy-rc.d
        if ! [ -e "$policy" ]; then
            trap 'rm -f "$policy"' EXIT
            trap 'exit 130' INT TERM
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod +x "$policy"
        fi
        apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    )
}

# can_make_environments PYTHON: Debian has what that takes in a package of its own.
can_make_environments() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# python_environment DIR PINS: an environment with what the file pins, made anew when that changes.
python_environment() {
    [ -f "$1/.pins" ] && cmp -s "$1/.pins" "$2" && return
    can_make_environments python3 || [ -z "${CI:-}" ] || install_packages python3-venv || return
    python3 -m venv --clear "$1" &&
        "$1/bin/python" -m pip install --quiet -r "$2" &&
        cp "$2" "$1/.pins"
}
