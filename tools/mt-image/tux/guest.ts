/**
 * What the tux guest runs besides Debian's programs: its init and its few configuration files. They are text here, so
 * that a compiled binary has them.
 * Reads, writes: nothing; the scripts say what they do inside the guest.
 */
import { AGENT_PORT, CONSOLE, IDENTITY_PORT, SYSCALLS_PROGRAM } from "../../../shared/guest-protocol.ts";

/** A text file of the guest. */
export interface GuestFile {
  path: string;
  mode: number;
  text: string;
}

/** Shell lines that keep a guest from sending frames of its own accord. */
export const SILENT = `# No router solicitations, no neighbour discovery.
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
`;

/** Shell lines that save wake-ups of an idle guest: hundreds share a core, and each wake-up runs translated code. */
export const SLEEPS_WHEN_IDLE = `# Statistics by the hour, no compaction ahead of need, no probing of managed neighbours.
echo 0 >/proc/sys/vm/compaction_proactiveness
echo 3600 >/proc/sys/vm/stat_interval
echo 0 >/proc/sys/kernel/hung_task_timeout_secs
for file in /proc/sys/net/ipv[46]/neigh/*/interval_probe_time_ms; do
  echo 86400000 >"$file"
done
`;

/** Runs once as process 1, then becomes busybox init, which reaps and respawns. */
const INIT = `#!/bin/sh
# Mounts, loads the modules of the devices that are there, then becomes busybox init.
export PATH=/sbin:/bin
mount -a
${SILENT}modprobe virtio_pci
modules=
for id in /sys/bus/virtio/devices/*/device; do
  read -r type <"$id" || continue
  case $type in
    0x0001) module=virtio_net ;;
    0x0002) module=virtio_blk ;;
    0x0003) module=virtio_console ;;
    0x0004) module=virtio_rng ;;
    0x0005) module=virtio_balloon ;;
    *) continue ;;
  esac
  case " $modules " in *" $module "*) ;; *) modules="$modules $module" ;; esac
done
[ -z "$modules" ] || modprobe -a $modules
ip link set dev lo up
# Up already, silent, without an address: what is done here no clone of this guest has to do.
for device in /sys/class/net/eth*; do
  [ ! -e "$device" ] || ip link set dev "\${device##*/}" up
done
${SLEEPS_WHEN_IDLE}# There is no disk to write back to.
echo 0 >/proc/sys/vm/dirty_writeback_centisecs
exec /sbin/init
`;

/** The line of the console starts a shell when somebody presses Enter in `mt-boot console`. */
const INITTAB = `::respawn:/sbin/mt-port ${IDENTITY_PORT} ${SYSCALLS_PROGRAM}
::respawn:/sbin/mt-port ${AGENT_PORT} /sbin/qemu-ga -m virtio-serial -p
${CONSOLE}::askfirst:-/bin/sh
::ctrlaltdel:/sbin/reboot
`;

const FSTAB = `proc /proc proc nosuid,nodev,noexec 0 0
sysfs /sys sysfs nosuid,nodev,noexec 0 0
devtmpfs /dev devtmpfs nosuid,mode=0755 0 0
`;

/** Starts the programs on ports. It waits for its port: names appear a moment after the driver has loaded. */
export const PORT = `#!/bin/sh
# mt-port NAME PROGRAM [ARG]...   Waits for the virtio-serial port NAME, links it as
# /dev/virtio-ports/NAME, as udev would, and becomes PROGRAM ARG... PORT.
name=$1
shift
port=/dev/virtio-ports/$name
mkdir -p /dev/virtio-ports
# One that ended is started again, but not as fast as it can end: its port may have no other side.
[ ! -e "$port" ] || sleep 0.5
tries=0
until [ -e "$port" ]; do
  for file in /sys/class/virtio-ports/*/name; do
    [ -e "$file" ] && read -r found <"$file" && [ "$found" = "$name" ] || continue
    device=\${file%/name}
    ln -sf "../\${device##*/}" "$port"
    continue 2
  done
  tries=$((tries + 1))
  # A guest without this port must not poll: init starts this again afterwards.
  [ "$tries" -lt 200 ] || exec sleep 60
  sleep 0.02
done
exec "$@" "$port"
`;

/** qemu-ga's guest-shutdown calls this; busybox has poweroff, reboot and halt only. */
const SHUTDOWN = `#!/bin/sh
# shutdown [-P|-H|-r] …: powers off, halts or reboots now.
case " $* " in
  *" -r "*) exec reboot ;;
  *" -H "*) exec halt ;;
  *) exec poweroff ;;
esac
`;

/** All text files of the guest; `debian_version` is what /etc/os-release says of itself. */
export function guestFiles(debian_version: string): GuestFile[] {
  return [
    { path: "/init", mode: 0o755, text: INIT },
    { path: "/sbin/mt-port", mode: 0o755, text: PORT },
    { path: "/sbin/shutdown", mode: 0o755, text: SHUTDOWN },
    { path: "/etc/inittab", mode: 0o644, text: INITTAB },
    { path: "/etc/fstab", mode: 0o644, text: FSTAB },
    { path: "/etc/hostname", mode: 0o644, text: "tux\n" },
    { path: "/etc/hosts", mode: 0o644, text: "127.0.0.1 localhost\n" },
    { path: "/etc/passwd", mode: 0o644, text: "root:x:0:0:root:/root:/bin/sh\n" },
    { path: "/etc/group", mode: 0o644, text: "root:x:0:\n" },
    {
      path: "/etc/os-release",
      mode: 0o644,
      text: `ID=megatux\nID_LIKE=debian\nNAME="MegaTux guest"\nVERSION_ID="${debian_version}"\nPRETTY_NAME="MegaTux guest (Debian ${debian_version})"\n`,
    },
  ];
}
