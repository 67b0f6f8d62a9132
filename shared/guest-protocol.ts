/**
 * What mt-boot on the host and the programs that mt-image puts into a guest agree on: ports, programs, and the frame of
 * system calls. Images are kept and pushed: changing any of it makes the images that are there useless (mt-boot says so),
 * and needs another RECIPE_VERSION in mt-image.
 */

/** Names of virtio-serial ports; a guest finds them under /sys/class/virtio-ports. The first is qemu-ga's own name. */
export const AGENT_PORT = "org.qemu.guest_agent.0";
/** System calls come in here, first of all those that give a guest its identity. */
export const IDENTITY_PORT = "org.megatux.identity.0";

/** The serial line that the kernel's messages and the login go to, as the guest calls it. */
export const CONSOLE = "ttyS0";

/** Reads frames from IDENTITY_PORT, makes the calls in them, and sends them back. */
export const SYSCALLS_PROGRAM = "/sbin/mt-syscalls";
/** In guests with a disk: run by the agent when the guest has its identity; makes what only this guest may have. */
export const OWN_PROGRAM = "/sbin/mt-own";

/**
 * A frame of system calls, `bytes` long, little-endian, the same way there and back:
 *
 *   0        `magic`
 *   4        4 bytes, 0
 *   8        8 bytes that the host chooses, by which it knows the answer
 *   16       the calls, 32 bytes each: the number (of x86-64), then three arguments, 8 bytes each
 *            a number below 0 ends them
 *   then     the bytes that arguments point to; the guest has the frame at `address`
 *
 * All calls are made in order, whatever each returns; the guest puts a call's result in its number's place.
 */
export const FRAME = {
  bytes: 4096,
  magic: "mtc1",
  header_bytes: 16,
  call_bytes: 32,
  address: 0x600000,
} as const;

/** What the program's next open() or socket() gives: 0, 1 and 2 are the console, 3 is the port. */
export const NEXT_FD = 4;
