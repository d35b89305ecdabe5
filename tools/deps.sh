#!/bin/sh
# Lists the Debian packages headroom is built with, and installs those that are missing. Prints what it runs.
set -eu
packages="gcc libc6-dev cmake ninja-build pkg-config
          libopenblas-dev libcjson-dev libyaml-dev libutf8proc-dev libxxhash-dev
          zlib1g-dev liblzma-dev libzstd-dev libcmocka-dev"

missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

echo "deps: missing Debian packages:$missing"
sudo=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "deps: not root and no sudo; as root run: apt-get install$missing" >&2; exit 77; }
    sudo=sudo
fi
run() { echo "+ $*"; "$@"; }
run $sudo apt-get -q update
# shellcheck disable=SC2086
run $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $missing
