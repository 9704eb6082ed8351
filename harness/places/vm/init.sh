#!/bin/sh
# First process of the machine that harness/places/vm boots: puts the host's files together, then hands over to the guest.
#
# The root is the host's, read-only, below a layer in memory.  `settings` names the kernel's modules and the guest's
# command, `mounts` the folders that are the host's own to write.
/bin/busybox --install -s /bin
export PATH=/bin
. /settings
fail() {
    echo "init: $*" >/dev/console
    poweroff -f
}
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod "$module" || fail "$module does not load"; done

share="trans=virtio,version=9p2000.L,msize=512000"
mount -t 9p -o "ro,cache=loose,$share" root /host || fail "the host's files are out of reach"
mount -t tmpfs -o size=75% layer /layer
mkdir /layer/files /layer/work
mount -t overlay -o lowerdir=/host,upperdir=/layer/files,workdir=/layer/work root /root || fail "no overlay"

mount --move /dev /root/dev
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t cgroup2 cgroup /root/sys/fs/cgroup
mount -t tmpfs -o mode=755 run /root/run
mkdir -p /root/dev/pts /root/dev/shm /root/lib/modules
mount -t devpts devpts /root/dev/pts
ln -s pts/ptmx /root/dev/ptmx 2>/dev/null
mount -t tmpfs -o mode=1777 shm /root/dev/shm
[ "$MODULES" = / ] || mount --bind "/root$MODULES" /root/lib/modules || fail "modules are out of reach"
while read -r tag cache folder; do
    mount -t 9p -o "rw,cache=$cache,$share" "$tag" "/root$folder" || fail "$folder is out of reach"
done </mounts
exec switch_root /root "$PYTHON" -I -S "$GUEST"
