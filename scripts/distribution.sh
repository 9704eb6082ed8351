#!/usr/bin/env bash
# Runs this checkout in another distribution's userland (its Python, nft, iptables, ipset) on this machine's kernel.
#
#   scripts/distribution.sh trixie                    replays in every mode that this kernel has, and the conformance suite
#   scripts/distribution.sh sid harness replay dump.json
#
# The name is a release that debootstrap knows.  It is installed once, below ~/.cache; as root.  Exit code: the command's.
set -euo pipefail
release=${1:?usage: scripts/distribution.sh RELEASE [COMMAND...]}
shift
[ "$(id -u)" = 0 ] || { echo "distribution.sh: needs root" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "distribution.sh: install debootstrap" >&2; exit 2; }
checkout=$(cd "$(dirname "$0")/.." && pwd)
root=${XDG_CACHE_HOME:-$HOME/.cache}/kube-proxy-harness/distributions/$release
packages=nftables,iptables,ipset,ipvsadm,iproute2,procps,python3,python3-venv,make,curl,ca-certificates,kmod,util-linux

if [ ! -d "$root" ]; then
    mkdir -p "${root%/*}"
    components=main
    [ -e "/usr/share/debootstrap/scripts/$release" ] &&
        grep -qi ubuntu "/usr/share/debootstrap/scripts/$release" && components=main,universe
    rm -rf "$root.partial"
    echo "installing $release, some minutes; log: $root.log" >&2
    debootstrap --variant=minbase --components=$components --include=$packages "$release" "$root.partial" >"$root.log" 2>&1 || {
        tail -2 "$root.log" >&2
        exit 2
    }
    mv "$root.partial" "$root"
fi
cp /etc/resolv.conf /etc/hosts "$root/etc/"
# This machine's certificates and pip settings are what reaches the package index from here.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
mkdir -p "$root/checkout"
find "$root/checkout" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
git -C "$checkout" ls-files -z | tar -C "$checkout" --null --files-from=- -cf - | tar -C "$root/checkout" -xf -

inside='
set -euo pipefail
cd /checkout
# All Python packages, but none of the distribution but those above.
[ -x .venv/bin/python ] || python3 -m venv .venv
for what in "--require-hashes -r requirements.lock" "--no-deps --no-build-isolation -e ."; do
    .venv/bin/python -m pip install --quiet $what >/tmp/pip.log 2>&1 || { tail -5 /tmp/pip.log >&2; exit 2; }
done
export PATH=/checkout/.venv/bin:$PATH
if [ $# -gt 0 ]; then exec "$@"; fi
harness doctor | sed -n "/^python /p; /^system/p; / version /p"
for mode in nftables "iptables --iptables-variant nft" "iptables --iptables-variant legacy" userspace; do
    echo "replay --mode $mode"
    harness replay recordings/demo.jsonl --kernel netns --mode $mode | grep "^verified"
done
for mode in nftables iptables; do harness conformance --mode $mode | tail -1; done
'
# Not chroot, in which the kernel forbids user namespaces.
enter='
set -e
cd "$1"
mount --make-rprivate /
mount --rbind . .
cd "$1"
mount -t proc proc proc
for each in sys dev; do mount --rbind /$each $each; done
for each in run tmp; do mount -t tmpfs $each $each; done
mkdir -p .old
pivot_root . .old
umount -l /.old
cd /
inside=$2
shift 2
exec env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -c "$inside" bash "$@"
'
exec unshare -m bash -c "$enter" bash "$root" "$inside" "$@"
