#!/bin/sh
# Makes the guest's disks from the package tree. Runs as root or under fakeroot, so that owners come out right.
#
#   TREE_TAR  tar file with the installed packages      NODE   Node binary
#   WORK      empty directory for the unpacked tree     KOFFI  koffi's native module
#   OUT       where root.ext4, scratch.ext4, busybox go  INIT   rootfs/init
#   UUID      of the root filesystem                    SCRATCH_MIB
set -eu

# devtmpfs covers /dev in the guest.
tar --extract --file "$TREE_TAR" --directory "$WORK" --numeric-owner --preserve-permissions --exclude './dev/*'
rm -f "$TREE_TAR"

install -D -m 755 "$NODE" "$WORK/usr/local/bin/node"
install -D -m 644 "$KOFFI" "$WORK/usr/local/lib/fusegate/koffi.node"
install -D -m 755 "$INIT/init" "$WORK/usr/lib/fusegate/init"
install -m 644 "$INIT/sshd_config" "$INIT/mounts" "$INIT/kernel-mounts" "$WORK/usr/lib/fusegate/"

# Keys that the package made for itself would be the same in every guest.
rm -f "$WORK"/etc/ssh/ssh_host_*
rm -rf "$WORK"/var/lib/apt/lists/* "$WORK"/var/cache/* "$WORK"/var/log/*
ln -sf ../proc/self/mounts "$WORK/etc/mtab"
echo fusegate >"$WORK/etc/hostname"
printf '127.0.0.1 localhost fusegate\n' >"$WORK/etc/hosts"
: >"$WORK/etc/fstab"
mkdir -p "$WORK/mnt" "$WORK/sys" "$WORK/proc" "$WORK/run" "$WORK/tmp"
cp "$WORK/bin/busybox" "$OUT/busybox"

# Read-only: no journal, nothing reserved, room only for what mke2fs itself needs.
kib=$(du -sk "$WORK" | cut -f1)
inodes=$(find "$WORK" | wc -l)
mke2fs -q -t ext4 -b 4096 -L fusegate-root -U "$UUID" -m 0 -O '^has_journal,^resize_inode' \
  -N $((inodes + inodes / 10 + 256)) -d "$WORK" "$OUT/root.ext4" $((kib + kib / 12 + 16384))k

mke2fs -q -t ext4 -b 4096 -L fusegate-scratch -m 0 -E lazy_itable_init=0,lazy_journal_init=0 \
  "$OUT/scratch.ext4" "${SCRATCH_MIB}M"
