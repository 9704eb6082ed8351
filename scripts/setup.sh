#!/usr/bin/env bash
# Makes .venv with the locked dependencies.  Installs the system packages when root, names them when not.
set -euo pipefail
cd "$(dirname "$0")/.."

# command : package that brings it : what needs it ("everything" is not to be done without)
NEEDS="
nft:nftables:everything
iptables:iptables:everything
ip:iproute2:everything
sysctl:procps:everything
ipset:ipset:mode ipvs
ipvsadm:ipvsadm:mode ipvs
linux.uml:user-mode-linux:mode ipvs where the kernel has no IP_VS
modprobe:kmod:mode ipvs where the kernel has no IP_VS
mvn:maven:harness kafka up
java:default-jre-headless:harness kafka up
kubectl:kubernetes-client:tests of harness serve
curl:curl:tests of the lab
chromium:chromium:tests of the chaos report
chromedriver:chromium-driver:tests of the chaos report
"
there() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

missing=()
while IFS=: read -r command package _; do
    [ -z "$command" ] || there "$command" || missing+=("$package")
done <<<"$NEEDS"
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        # One by one only where all at once fails: a package that is not to be had must not cost the others.
        apt-get install -y -qq "${missing[@]}" >/dev/null ||
            for package in "${missing[@]}"; do apt-get install -y -qq "$package" >/dev/null || true; done
    else
        echo "please install what is missing: sudo apt-get install ${missing[*]}" >&2
    fi
fi
failed=0
while IFS=: read -r command package purpose; do
    [ -z "$command" ] || there "$command" && continue
    echo "no $command (package $package): ${purpose} needs it" >&2
    # On CI nothing is left out.
    [ "$purpose" != everything ] && [ -z "${CI:-}" ] || failed=1
done <<<"$NEEDS"
[ "$failed" = 0 ] || exit 1

[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
