#!/usr/bin/env bash
# Checks what the program is shipped in and with: a static binary, completions, manual pages, the systemd unit,
# the manifests for Kubernetes, the container image, and the package for cargo.
#   tests/packaging/run.sh target/x86_64-unknown-linux-musl/release/open-aiops
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${PACKAGING_HOME:-$HOME/.cache/open-aiops-packaging}

# Of each Debian package one command that it brings.
packages=(bash:bash zsh:zsh fish:fish mandoc:mandoc systemd:systemd-analyze buildah:buildah iproute2:ip util-linux:unshare)
missing=()
for package in "${packages[@]}"; do
    command -v "${package#*:}" >/dev/null || missing+=("${package%%:*}")
done
if [ -n "${CI:-}" ] && [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if ! command -v python3 >/dev/null; then
    echo "SKIPPED: no python3, so nothing of the packaging was checked" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi
if ! [ -f "$home/.pins" ] || ! cmp -s "$home/.pins" "$here/requirements.txt"; then
    python3 -m venv --clear "$home"
    "$home/bin/python" -m pip install --quiet -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$home/.pins"
fi
PATH="$home/bin:$PATH" "$home/bin/python" "$here/check.py" "$(realpath "$1")"
