/**
 * What a Debian guest runs besides Debian's own programs: the init of its initial RAM disk, its start-up, and the program
 * that makes its ssh host keys. Its agent and mt-syscalls are those of tux.
 * Reads, writes: nothing; the scripts say what they do inside the guest.
 */
import {
  AGENT_PORT,
  CONSOLE,
  IDENTITY_PORT,
  OWN_PROGRAM,
  SYSCALLS_PROGRAM,
} from "../../../shared/guest-protocol.ts";
import { PORT, SILENT, SLEEPS_WHEN_IDLE } from "../tux/guest.ts";
import { syscallsProgram } from "../tux/syscalls.ts";

/** A file that is written to the disk. */
export interface DiskFile {
  path: string;
  mode: number;
  data: string | Buffer;
}

/** Init of the initial RAM disk: mounts the disk and starts the init on it. */
const INIT = `#!/bin/sh
export PATH=/sbin:/bin
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
${SILENT}modprobe -a virtio_pci virtio_blk virtio_console virtio_net virtio_rng virtio_balloon
tries=0
until [ -b /dev/vda ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 500 ] || { echo "Cannot find the disk: there is no /dev/vda" >/dev/console; exit 1; }
  sleep 0.02
done
# What an earlier QEMU left in the journal is replayed here.
mount -t ext4 -o noatime /dev/vda /mnt || { echo "Cannot mount /dev/vda" >/dev/console; exit 1; }
for dir in dev proc sys; do mount --move /$dir /mnt/$dir; done
exec switch_root /mnt /sbin/init
`;

/**
 * Debian's sysvinit, booted without the scripts of its run levels, which take seven times as long as all the rest;
 * shutting down runs them. The console asks for Enter before it starts a shell.
 */
const INITTAB = `id:2:initdefault:
si::sysinit:/sbin/mt-sysinit
l0:0:wait:/etc/init.d/rc 0
l6:6:wait:/etc/init.d/rc 6
sc:2:respawn:/sbin/mt-port ${IDENTITY_PORT} ${SYSCALLS_PROGRAM}
ag:2:respawn:/sbin/mt-port ${AGENT_PORT} /sbin/qemu-ga -m virtio-serial -p
co:2:respawn:/sbin/agetty --autologin root --wait-cr --noissue ${CONSOLE} 115200 linux
ca::ctrlaltdel:/sbin/shutdown -r now
`;

const SYSINIT = `#!/bin/sh
# Mounts what programs expect and takes the name that this guest was given before.
export PATH=/sbin:/bin
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
mkdir -p /run/lock /run/sshd /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs /dev/shm
hostname -F /etc/hostname
ip link set dev lo up
${SLEEPS_WHEN_IDLE}`;

const OWN = `#!/bin/sh
# mt-own   When this guest has its identity: ssh host keys of its own, new where its machine id is, and sshd.
export PATH=/sbin:/bin
keys=/etc/ssh/ssh_host
made_for=/etc/ssh/.keys_of_machine
read -r name </proc/sys/kernel/hostname
if ! cmp -s /etc/machine-id "$made_for"; then
  rm -f "$made_for" "$keys"_*
  for type in ed25519 ecdsa; do
    ssh-keygen -q -t "$type" -N '' -C "$name" -f "\${keys}_\${type}_key" ||
      { echo "Cannot make the $type host key" >&2; exit 1; }
  done
  cp /etc/machine-id "$made_for" || { echo "Cannot write $made_for" >&2; exit 1; }
  # On the disk before it is said to be done: a guest that is killed now is the same one afterwards.
  sync
  [ ! -e /run/sshd.pid ] || { read -r pid </run/sshd.pid && kill "$pid"; rm -f /run/sshd.pid; }
fi
[ -e /run/sshd.pid ] || /usr/sbin/sshd || { echo "Cannot start sshd" >&2; exit 1; }
`;

/** No RSA key: making one takes a translated guest seconds, and every client of this decade knows the other two types. */
const SSHD = `HostKey /etc/ssh/ssh_host_ed25519_key
HostKey /etc/ssh/ssh_host_ecdsa_key
`;

export const debianInit = INIT;

/** The files on the disk besides those of its packages. */
export const debianFiles = (): DiskFile[] => [
  { path: "/sbin/mt-sysinit", mode: 0o755, data: SYSINIT },
  { path: "/sbin/mt-port", mode: 0o755, data: PORT },
  { path: SYSCALLS_PROGRAM, mode: 0o755, data: syscallsProgram() },
  { path: OWN_PROGRAM, mode: 0o755, data: OWN },
  { path: "/etc/inittab", mode: 0o644, data: INITTAB },
  { path: "/etc/ssh/sshd_config.d/megatux.conf", mode: 0o644, data: SSHD },
  { path: "/etc/fstab", mode: 0o644, data: "/dev/vda / ext4 noatime 0 1\n" },
  { path: "/etc/hostname", mode: 0o644, data: "debian\n" },
  { path: "/etc/hosts", mode: 0o644, data: "127.0.0.1 localhost\n" },
  // Empty: not those of the machine that it was built on.
  { path: "/etc/resolv.conf", mode: 0o644, data: "" },
  { path: "/etc/apt/sources.list", mode: 0o644, data: "" },
];
/** Removed from the disk, because each guest makes its own: directory and beginning of the name. */
export const NOT_ON_DISK = [
  ["etc", "machine-id"],
  ["etc/ssh", "ssh_host_"],
] as const;
