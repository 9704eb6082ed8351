#!/usr/bin/env bash
# Makes .venv with the locked dependencies; installs the system packages when root, names them when not.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v nft >/dev/null || [ -x /usr/sbin/nft ] || missing+=(nftables)
command -v ip >/dev/null || [ -x /usr/sbin/ip ] || missing+=(iproute2)
command -v iptables >/dev/null || [ -x /usr/sbin/iptables ] || missing+=(iptables)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
    else
        echo "please install: ${missing[*]}   (sudo apt-get install ${missing[*]})" >&2
        exit 1
    fi
fi
# ipvs mode runs in user-mode Linux where the kernel has no IP_VS; everything else works without these.
optional=()
command -v ipset >/dev/null || [ -x /usr/sbin/ipset ] || optional+=(ipset)
command -v ipvsadm >/dev/null || [ -x /usr/sbin/ipvsadm ] || optional+=(ipvsadm)
command -v linux.uml >/dev/null || optional+=(user-mode-linux)
command -v modprobe >/dev/null || [ -x /usr/sbin/modprobe ] || optional+=(kmod)
if [ ${#optional[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${optional[@]}" ||
            echo "not to be had here: ${optional[*]}; ipvs mode needs them" >&2
    else
        echo "for ipvs mode, install: ${optional[*]}   (sudo apt-get install ${optional[*]})" >&2
    fi
fi
# Only tests of harness serve need kubectl; any version will do.
if ! command -v kubectl >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq kubernetes-client ||
            echo "not to be had here: kubernetes-client; tests with kubectl need it" >&2
    else
        echo "for tests with kubectl, install: kubernetes-client   (sudo apt-get install kubernetes-client)" >&2
    fi
fi
# A broker of one's own (harness kafka up, and the tests of Kafka) is fetched by Maven and run by Java.
broker=()
command -v mvn >/dev/null || broker+=(maven)
command -v java >/dev/null || broker+=(default-jre-headless)
if [ ${#broker[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${broker[@]}" ||
            echo "not to be had here: ${broker[*]}; harness kafka up needs them" >&2
    else
        echo "for harness kafka up, install: ${broker[*]}   (sudo apt-get install ${broker[*]})" >&2
    fi
fi
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
