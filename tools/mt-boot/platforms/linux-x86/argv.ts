/**
 * QEMU's command line for one guest, from its record and nothing else but names of this host: files stand
 * in the guest's directory, the kernel in the store, taps by name. The directory stands in the line, so that
 * the process can be found in /proc when everything else is lost.
 */
import { guestMac } from "../../../../shared/addresses.ts";
import { AGENT_PORT, CONSOLE, IDENTITY_PORT } from "../../../../shared/guest-protocol.ts";
import { tapName } from "../../../../shared/host/names.ts";
import { socketName } from "../../../../shared/own-place.ts";
import type { Guest } from "../../../../shared/records/index.ts";
import { diskArgv } from "../../machine/disk.ts";
import { guestFiles } from "../../machine/guest-files.ts";
import type { Boot, MemoryFile } from "../platform.ts";

export const QEMU = "qemu-system-x86_64";

/**
 * For an image that names no command line: a serial console, no clock watchdogs (an idle guest wakes a third
 * less), no self-tests, and a panic ends QEMU (`panic=-1` with `-no-reboot`), which the supervisor sees. Pressure
 * is not averaged every two seconds, and security modules without a policy are not asked at every file.
 */
export const DEFAULT_CMDLINE =
  `console=${CONSOLE} quiet panic=-1 mitigations=off nowatchdog tsc=reliable clocksource=tsc cryptomgr.notests ` +
  "random.trust_cpu=on no_timer_check i8042.noaux i8042.nokbd 8250.nr_uarts=1 " +
  "psi=0 lsm= audit=0";

/** QEMU takes a comma inside a value when it is doubled. */
const value = (text: string) => text.replaceAll(",", ",,");

/** It runs in the guest's directory. */
export function qemuArgv(boot: Boot): string[] {
  const { experiment, guest, dir, accelerator, memory } = boot;
  const files = guestFiles(dir);
  return [
    ...["-pidfile", files.pid],
    ...["-name", `guest=${guest.id}`],
    ...["-machine", "pc,mem-merge=on,dump-guest-core=off,memory-backend=ram"],
    ...["-object", memoryObject(guest, memory)],
    // Who goes on from another's state does not call that one's MAC out into its network.
    ...["-global", "migration.announce-rounds=0"],
    // The translation buffer is as large as the guest is allowed to make it: 32 MiB lose no speed here.
    ...["-accel", accelerator === "kvm" ? "kvm" : "tcg,tb-size=32"],
    ...["-cpu", "max", "-smp", String(guest.cores), "-m", `${guest.mem_mib}M`],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    // A guest that breaks out of its QEMU starts no program.
    ...["-sandbox", "on,spawn=deny"],
    ...[
      "-chardev",
      `socket,id=console,path=${value(socketName(files.tty))},server=on,wait=off,logfile=${value(files.console)},logappend=on`,
      "-serial",
      "chardev:console",
    ],
    ...[
      "-chardev",
      `socket,id=qmp,path=${value(socketName(files.qmp))},server=on,wait=off`,
      "-mon",
      "chardev=qmp,mode=control",
    ],
    ...["-chardev", `socket,id=agent,path=${value(socketName(files.agent))},server=on,wait=off`],
    ...["-chardev", `socket,id=identity,path=${value(socketName(files.identity))},server=on,wait=off`],
    // Room for two ports, not for 31 with an event descriptor each that QEMU would poll.
    ...["-device", "virtio-serial-pci,max_ports=4"],
    ...["-device", `virtserialport,chardev=agent,name=${AGENT_PORT}`],
    ...["-device", `virtserialport,chardev=identity,name=${IDENTITY_PORT}`],
    ...guest.interfaces.flatMap((_, nic) => [
      ...["-netdev", `tap,id=nic${nic},ifname=${tapName(experiment, guest.id, nic)},script=no,downscript=no`],
      ...["-device", `virtio-net-pci,netdev=nic${nic},mac=${guestMac(guest.index, nic)},romfile=`],
    ]),
    ...(boot.disk === undefined ? [] : diskArgv(boot.disk)),
    // Who goes on has its kernel in its memory: QEMU would keep both files on its heap.
    ...(boot.state !== undefined
      ? ["-incoming", "defer"]
      : ["-kernel", boot.kernel, "-initrd", boot.initrd, "-append", boot.cmdline ?? DEFAULT_CMDLINE]),
  ];
}

/**
 * The guest's memory. As a file it is shared for the template, whose memory it becomes, and private for a clone,
 * which sees the file and keeps each page that it changes. It has one name for all, so that each can go on from
 * the state of any other.
 */
function memoryObject({ mem_mib }: Guest, file: MemoryFile | undefined): string {
  const size = `id=ram,size=${mem_mib}M`;
  if (file === undefined) return `memory-backend-ram,${size},merge=on`;
  const kept = file.role === "template" ? "share=on" : "share=off,merge=on";
  return `memory-backend-file,${size},mem-path=${value(file.path)},${kept}`;
}
