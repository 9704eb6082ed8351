#!/bin/sh
# First process of the user-mode Linux kernel that harness/uml.py boots on the host's own files.
#
# The root is read-only.  $EXCHANGE is a directory of the host, writable here: `mounts` names others
# to make writable, `command` is the script to run, `exit` is where its exit code goes.  Standard
# output and error leave by two serial lines.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t hostfs none "$EXCHANGE" -o "$EXCHANGE"
while read -r directory; do
    mount -t hostfs none "$directory" -o "$directory"
done <"$EXCHANGE/mounts"

# modprobe, of the kernel and of tools, looks under a root where Debian's modules for this kernel are.
mkdir -p /run/uml/lib
ln -s /usr/lib/uml/modules /run/uml/lib/modules
printf '#!/bin/sh\nexec /sbin/modprobe -d /run/uml "$@"\n' >/run/uml/modprobe
chmod +x /run/uml/modprobe
echo /run/uml/modprobe >/proc/sys/kernel/modprobe
/run/uml/modprobe -q -a ipv6 dummy ip_vs ip_vs_rr ip_set nf_tables

ip link set lo up
for line in ttyS1 ttyS2; do stty raw -echo <"/dev/$line"; done
exec 8>/dev/ttyS1 9>/dev/ttyS2
mkfifo /run/uml/out /run/uml/err
cat /run/uml/out >&8 &
out=$!
cat /run/uml/err >&9 &
err=$!
sh "$EXCHANGE/command" <"$EXCHANGE/stdin" >/run/uml/out 2>/run/uml/err 8>&- 9>&-
echo $? >"$EXCHANGE/exit"
wait "$out" "$err"
# Closing a line waits until the host has read all of it.
exec 8>&- 9>&-
umount "$EXCHANGE"
sync
echo o >/proc/sysrq-trigger
sleep 60
