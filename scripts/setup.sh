#!/usr/bin/env bash
# Creates .venv with all locked dependencies, or (`setup.sh replay`) with those of a replay.
# Installs missing system packages as root; otherwise lists them.
set -euo pipefail
cd "$(dirname "$0")/.."
for_what=${1:-everything}

# command : package that provides it : what needs it
REPLAY="
nft:nftables:replay
iptables:iptables:replay
ip:iproute2:replay
sysctl:procps:replay
"
REST="
ipset:ipset:mode ipvs
ipvsadm:ipvsadm:mode ipvs
qemu-system-x86_64:qemu-system-x86:--kernel vm, and mode ipvs where the kernel has no IP_VS
busybox:busybox-static:--kernel vm
modprobe:kmod:--kernel vm
mvn:maven:harness kafka up
java:default-jre-headless:harness kafka up
kubectl:kubernetes-client:tests of harness serve
curl:curl:tests of the lab
chromium:chromium:tests of the chaos report
chromedriver:chromium-driver:tests of the chaos report
"
case $for_what in
replay) needs=$REPLAY lock=requirements-replay.lock megabytes=82 ;;
everything) needs=$REPLAY$REST lock=requirements.lock megabytes=440 ;;
*) echo "setup.sh [replay]: $for_what is not a valid choice" >&2 && exit 2 ;;
esac

python=
for each in python3 python3.14 python3.13 python3.12 python3.11; do
    "$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python=$each && break
done
if [ -z "$python" ]; then
    found=$(python3 -c 'import platform; print(platform.python_version())' 2>/dev/null || echo not installed)
    echo "setup.sh: Python 3.11 or newer is needed as python3 or python3.11 on PATH; python3 is $found" >&2
    exit 1
fi

there() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

# Its output is shown only if it fails, since harmless lines of it look like errors.
install() {
    local log
    log=$(mktemp)
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 || {
        grep '^E:' "$log" >&2 || tail -3 "$log" >&2
        return 1
    }
}

missing=()
while IFS=: read -r command package _; do
    [ -z "$command" ] || there "$command" || missing+=("$package")
done <<<"$needs"
"$python" -c 'import ensurepip' 2>/dev/null || missing+=("$python-venv")

echo "for $for_what: $(grep -c '^[a-zA-Z]' $lock) Python packages into .venv, about $megabytes MB;" \
    "from the distribution: ${missing[*]:-nothing}"
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install --assume-no --no-install-recommends "${missing[@]}" 2>/dev/null |
            grep -E '^(Need to get|After this operation)' || true
        # One by one only if all at once fails: an unavailable package must not prevent the others.
        install "${missing[@]}" || for package in "${missing[@]}"; do install "$package" || true; done
    else
        echo "install the missing packages: sudo apt-get install ${missing[*]}" >&2
    fi
fi
failed=0
while IFS=: read -r command package purpose; do
    [ -z "$command" ] || there "$command" && continue
    echo "missing $command (package $package), needed for ${purpose}" >&2
    # On CI nothing may be missing.
    [ "$purpose" != replay ] && [ -z "${CI:-}" ] || failed=1
done <<<"$needs"
[ "$failed" = 0 ] || exit 1

[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check install --no-compile "$@"; }
if [ -t 1 ]; then pip --require-hashes -r $lock; else pip --require-hashes -r $lock | sed -un 's/^Collecting /  /p'; fi
pip --quiet --no-deps --no-build-isolation -e .
