/**
 * What the tux guest runs beside Debian's programs: its init, its identity, its few files of
 * configuration. They are text here so that a compiled binary carries them.
 * Reads, writes: nothing; the scripts say what they do inside the guest.
 */

/** A text file of the guest. */
export interface GuestFile {
  path: string;
  mode: number;
  text: string;
}

export const AGENT_PORT = "org.qemu.guest_agent.0";

/** Runs once as process 1, then becomes busybox init, which reaps and respawns. */
const INIT = `#!/bin/sh
# Mounts, loads the modules of the devices that are there, then becomes busybox init.
export PATH=/sbin:/bin
mount -a
# Guests stay silent until told otherwise: no router solicitations, no neighbour discovery.
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
modprobe virtio_pci
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
exec /sbin/init
`;

const INITTAB = `::respawn:/sbin/mt-agent
::ctrlaltdel:/sbin/reboot
`;

const FSTAB = `proc /proc proc nosuid,nodev,noexec 0 0
sysfs /sys sysfs nosuid,nodev,noexec 0 0
devtmpfs /dev devtmpfs nosuid,mode=0755 0 0
`;

/** The host announces the ports' names a moment after the driver has loaded: so it waits for them. */
const AGENT = `#!/bin/sh
# Links /dev/virtio-ports/NAME, as udev would, and becomes the guest agent.
port=/dev/virtio-ports/${AGENT_PORT}
link_ports() {
  for file in /sys/class/virtio-ports/*/name; do
    [ -e "$file" ] && read -r name <"$file" || continue
    device=\${file%/name}
    ln -sf "../\${device##*/}" "/dev/virtio-ports/$name"
  done
}
[ -d /dev/virtio-ports ] || mkdir /dev/virtio-ports
tries=0
until link_ports; [ -e "$port" ]; do
  tries=$((tries + 1))
  # A guest without an agent port must not poll: init starts this again afterwards.
  [ "$tries" -lt 200 ] || exec sleep 60
  usleep 20000
done
exec /sbin/qemu-ga -m virtio-serial -p "$port"
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

const IDENTITY = `#!/bin/sh
# mt-identity NAME [MAC,IP/LEN,GATEWAY]...   (an argument for each of eth0, eth1, in this order)
# Makes this guest NAME with those links, addresses and default routes. MAC, IP/LEN and GATEWAY
# may each be empty. Prints what the kernel then says: "hostname NAME", and a line a link,
# "eth0 MAC IP/LEN GATEWAY", with - for what is not set. Exit: 0 done, 1 failed, 64 usage.
export PATH=/sbin:/bin
fail() {
  echo "Cannot $1" >&2
  exit 1
}
name=$1
case $name in
  '' | *[!A-Za-z0-9._-]*) echo "Cannot set the hostname: '$name' is no name" >&2; exit 64 ;;
esac
[ \${#name} -le 64 ] || { echo "Cannot set the hostname: '$name' is longer than 64" >&2; exit 64; }
shift

# Guests forked from one memory image share the state of their random generators until they are
# told apart; what only this guest knows goes into the pool, and into the machine id.
echo "$name $*" >/dev/urandom
read -r old_name </proc/sys/kernel/hostname
if [ "$old_name" != "$name" ] || [ ! -s /etc/machine-id ]; then
  read -r uuid </proc/sys/kernel/random/uuid
  digest=$(echo "$uuid $name $*" | sha256sum) || fail "make a machine id"
  printf '%.32s\\n' "$digest" >/etc/machine-id || fail "write /etc/machine-id"
fi
echo "$name" >/proc/sys/kernel/hostname || fail "set the hostname to $name"
echo "$name" >/etc/hostname || fail "write /etc/hostname"

hosts="127.0.0.1 localhost"
index=0
for link in "$@"; do
  device=eth$index
  sys=/sys/class/net/$device
  case $link in *,*,*,* | *[!0-9A-Fa-f:./,]*) fail "set up $device: '$link' is not MAC,IP/LEN,GATEWAY" ;; *,*,*) ;; *) fail "set up $device: '$link' is not MAC,IP/LEN,GATEWAY" ;; esac
  mac=\${link%%,*}
  rest=\${link#*,}
  address=\${rest%%,*}
  gateway=\${rest#*,}
  [ -e "$sys" ] || fail "set up $device: the guest has no such link"
  read -r old_mac <"$sys/address"
  if [ -n "$mac" ] && [ "$mac" != "$old_mac" ]; then
    ip link set dev "$device" down || fail "take $device down"
    ip link set dev "$device" address "$mac" || fail "set the address of $device to $mac"
  fi
  ip -4 addr flush dev "$device" || fail "flush the addresses of $device"
  if [ -n "$address" ]; then
    case $address in */*) ;; *) fail "set up $device: '$address' has no prefix length" ;; esac
    ip addr add "$address" broadcast + dev "$device" || fail "add $address to $device"
    hosts="$hosts
\${address%/*} $name"
  fi
  ip link set dev "$device" up || fail "bring $device up"
  if [ -n "$gateway" ]; then
    # Several links may have a gateway: the first is used, the next ones stand by.
    ip route replace default via "$gateway" dev "$device" metric "$index" || fail "route through $gateway on $device"
  fi
  index=$((index + 1))
done
echo "$hosts" >/etc/hosts || fail "write /etc/hosts"

# From here on nothing is taken from the arguments but the number of links.
read -r name </proc/sys/kernel/hostname
echo "hostname $name"
addresses=$(ip -o -4 addr show) || fail "read the addresses"
routes=$(ip -4 route show) || fail "read the routes"
count=$index
index=0
while [ "$index" -lt "$count" ]; do
  device=eth$index
  read -r mac <"/sys/class/net/$device/address"
  address=-
  gateway=-
  while read -r number link family value rest; do
    [ "$link" = "$device" ] && [ "$address" = - ] && address=$value
  done <<END
$addresses
END
  while read -r destination via hop dev link rest; do
    [ "$destination $via $dev $link" = "default via dev $device" ] && gateway=$hop
  done <<END
$routes
END
  echo "$device $mac $address $gateway"
  index=$((index + 1))
done
`;

/** All text files of the guest; `debian_version` is what /etc/os-release says of itself. */
export function guestFiles(debian_version: string): GuestFile[] {
  return [
    { path: "/init", mode: 0o755, text: INIT },
    { path: "/sbin/mt-agent", mode: 0o755, text: AGENT },
    { path: "/sbin/mt-identity", mode: 0o755, text: IDENTITY },
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
