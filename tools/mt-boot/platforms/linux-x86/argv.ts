/**
 * QEMU's command line for one guest, from its record and names of this host alone: files are in the guest's
 * directory, the kernel is in the store, taps are found by name. The directory is in the command line, so that the
 * process can be found in /proc when all else is lost.
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
 * The kernel's command line where the image names none: a serial console, no clock watchdogs (an idle guest wakes a
 * third less), no self-tests; a panic ends QEMU (`panic=-1` with `-no-reboot`), which the supervisor sees. No pressure
 * averages every two seconds, no calls to security modules that have no policy.
 */
export const DEFAULT_CMDLINE =
  `console=${CONSOLE} quiet panic=-1 mitigations=off nowatchdog tsc=reliable clocksource=tsc cryptomgr.notests ` +
  "random.trust_cpu=on no_timer_check i8042.noaux i8042.nokbd 8250.nr_uarts=1 " +
  "psi=0 lsm= audit=0";

/** QEMU takes a comma inside a value when it is doubled. */
const value = (text: string) => text.replaceAll(",", ",,");

/** QEMU is to run in the guest's directory. */
export function qemuArgv(boot: Boot): string[] {
  const { experiment, guest, dir, accelerator, memory } = boot;
  const files = guestFiles(dir);
  return [
    ...["-pidfile", files.pid],
    ...["-name", `guest=${guest.id}`],
    ...["-machine", "pc,mem-merge=on,dump-guest-core=off,memory-backend=ram"],
    ...["-object", memoryObject(guest, memory)],
    // A clone must not announce its template's MAC to the network.
    ...["-global", "migration.announce-rounds=0"],
    // A guest fills its translation buffer to this limit; 32 MiB cost no speed here.
    ...["-accel", accelerator === "kvm" ? "kvm" : "tcg,tb-size=32"],
    ...["-cpu", "max", "-smp", String(guest.cores), "-m", `${guest.mem_mib}M`],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    // A guest that breaks out of its QEMU cannot start a program.
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
    // The default is 31 ports, each with an event descriptor that QEMU polls.
    ...["-device", "virtio-serial-pci,max_ports=4"],
    ...["-device", `virtserialport,chardev=agent,name=${AGENT_PORT}`],
    ...["-device", `virtserialport,chardev=identity,name=${IDENTITY_PORT}`],
    ...guest.interfaces.flatMap((_, nic) => [
      ...["-netdev", `tap,id=nic${nic},ifname=${tapName(experiment, guest.id, nic)},script=no,downscript=no`],
      ...["-device", `virtio-net-pci,netdev=nic${nic},mac=${guestMac(guest.index, nic)},romfile=`],
    ]),
    ...(boot.disk === undefined ? [] : diskArgv(boot.disk)),
    // A guest that goes on from a state has its kernel in memory; QEMU would keep both files on its heap.
    ...(boot.state !== undefined
      ? ["-incoming", "defer"]
      : ["-kernel", boot.kernel, "-initrd", boot.initrd, "-append", boot.cmdline ?? DEFAULT_CMDLINE]),
  ];
}

/**
 * The guest's memory. A template writes into its file (shared); a clone maps that file and keeps the pages that it
 * changes to itself (private). The object has the same id in all, so that each can go on from the state of any other.
 */
function memoryObject({ mem_mib }: Guest, file: MemoryFile | undefined): string {
  const size = `id=ram,size=${mem_mib}M`;
  if (file === undefined) return `memory-backend-ram,${size},merge=on`;
  const kept = file.role === "template" ? "share=on" : "share=off,merge=on";
  return `memory-backend-file,${size},mem-path=${value(file.path)},${kept}`;
}
