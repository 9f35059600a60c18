#!/bin/sh
# Install the Debian packages that the lab needs, where that may be done: as root, or with a sudo that asks nothing.
# Elsewhere it says what is missing and exits 0: the lab's tests then skip with that reason (in CI they fail).
set -eu

packages=$("$1" -m domicile.lab.packages)
[ -n "$packages" ] || exit 0

command -v apt-get >/dev/null || { echo "lab: not a Debian; please install: $packages"; exit 0; }
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if sudo -n true 2>/dev/null; then as_root="sudo -n"; else
        echo "lab: for the tests on a real Xen: sudo apt-get install $packages"; exit 0
    fi
fi
echo "lab: installing $packages"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # the list is words
$as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $packages >/dev/null
