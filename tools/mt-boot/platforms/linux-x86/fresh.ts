/**
 * What a guest must not share with copies of its memory. A template's clones, a restored guest and one that goes on
 * after it was saved all begin with the same memory: FRESH is the one list of what is made anew in it, on which
 * occasion, and why. Random values that a program in the guest already holds stay: mt-boot(1), LIMITS.
 * The guest's name, MACs and addresses come from its record: identity.ts.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../../shared/errors.ts";
import { NEXT_FD } from "../../../../shared/guest-protocol.ts";
import { runInGuest } from "../../guest/agent.ts";
import type { Call } from "../../guest/calls.ts";
import type { Occasion, Ports } from "../platform.ts";

/** Linux on x86-64: arch/x86/entry/syscalls/syscall_64.tbl. */
export const SYS = {
  write: 1,
  open: 2,
  close: 3,
  ioctl: 16,
  socket: 41,
  uname: 63,
  sched_setscheduler: 144,
  sethostname: 170,
  settime: 227,
};
const RNDADDENTROPY = 0x40085203;
const RNDRESEEDCRNG = 0x5207;
const SEED_BYTES = 32;
const SCHED_FIFO = 1;
const O = { wronly: 0o1, creat: 0o100, excl: 0o200, trunc: 0o1000 };

interface Fresh {
  what: string;
  /** What would go wrong otherwise, or why it is kept on the other occasions. */
  why: string;
  on: readonly Occasion[];
  /** Made by /sbin/mt-syscalls, before any other program of the guest gets the processor. */
  calls?: () => Call[];
  /** Run by the agent, where system calls with three arguments are not enough. */
  command?: () => string[];
}

const ALWAYS: readonly Occasion[] = ["told", "goes on", "restored"];

export const FRESH: readonly Fresh[] = [
  {
    what: "the priority of mt-syscalls",
    why: "it must run before any program that could draw from the old random generator",
    on: ALWAYS,
    calls: () => {
      const priority = Buffer.alloc(4);
      priority.writeInt32LE(1);
      const call = { number: SYS.sched_setscheduler, args: [0, SCHED_FIFO, priority] };
      return [{ what: "come first among its programs", ...call, or: "EPERM" }];
    },
  },
  {
    what: "the key of the random generator",
    why: "keys, UUIDs, ports and sequence numbers drawn later would be the same in every copy",
    on: ALWAYS,
    calls: () => {
      const entropy = Buffer.alloc(8 + SEED_BYTES);
      entropy.writeInt32LE(SEED_BYTES * 8, 0);
      entropy.writeInt32LE(SEED_BYTES, 4);
      randomBytes(SEED_BYTES).copy(entropy, 8);
      const seed = (request: number, argument: number | Buffer): Call => ({
        what: "seed its random generator",
        number: SYS.ioctl,
        args: [NEXT_FD, request, argument],
      });
      return [
        { what: "open /dev/urandom", number: SYS.open, args: [text("/dev/urandom"), O.wronly, 0] },
        // Added as entropy, then used at once: without the second call the old key serves for up to a minute more.
        seed(RNDADDENTROPY, entropy),
        seed(RNDRESEEDCRNG, 0),
        close(),
      ];
    },
  },
  {
    what: "the time of day",
    why: "it stood still while the guest did",
    on: ALWAYS,
    calls: () => {
      const now_ms = Date.now();
      const time = Buffer.alloc(16);
      time.writeBigInt64LE(BigInt(Math.floor(now_ms / 1000)), 0);
      time.writeBigInt64LE(BigInt(Math.floor((now_ms % 1000) * 1e6)), 8);
      return [{ what: "set its clock", number: SYS.settime, args: [0, time] }];
    },
  },
  {
    what: "the machine id, and with it the ssh host keys (mt-own, where there is a disk)",
    why: "made once: a guest that is told its name again, or goes on, stays the same machine",
    on: ["told"],
    calls: () =>
      writeFile("/etc/machine-id", `${randomBytes(16).toString("hex")}\n`, O.creat | O.excl).map(
        (call, i): Call => ({ ...call, or: i === 0 ? "EEXIST" : "EBADF" }),
      ),
  },
  {
    what: "the boot id",
    why: "in a clone the kernel makes it at the first read, after the seed; in a restored guest it was made before",
    on: ["restored"],
    command: () => ["sh", "-c", NEW_BOOT_ID, "sh", randomUUID()],
  },
];

/** The kernel never makes the boot id again, so another file is mounted over it. */
const NEW_BOOT_ID = `id=/proc/sys/kernel/random/boot_id
umount "$id" 2>/dev/null
rm -f /run/mt-boot-id
echo "$1" >/run/mt-boot-id && chmod 444 /run/mt-boot-id && mount --bind /run/mt-boot-id "$id"`;

export const text = (t: string) => Buffer.from(`${t}\0`);
export const close = (): Call => ({ what: "close a file", number: SYS.close, args: [NEXT_FD] });

export function writeFile(path: string, content: string, flags = O.creat | O.trunc): Call[] {
  const bytes = Buffer.from(content);
  const what = `write ${path}`;
  return [
    { what, number: SYS.open, args: [text(path), O.wronly | flags, 0o644] },
    { what, number: SYS.write, args: [NEXT_FD, bytes, bytes.length] },
    close(),
  ];
}

/** The system calls of an occasion. */
export const freshCalls = (occasion: Occasion): Call[] =>
  FRESH.flatMap(({ on, calls }) => (on.includes(occasion) ? (calls?.() ?? []) : []));

/**
 * Makes anew what FRESH lists, in a guest that has its identity. Call it before the guest goes on: what is sent waits
 * in the port, and is the first that the guest does.
 */
export async function makeFresh(
  { agent, calls }: Ports,
  occasion: Exclude<Occasion, "told">,
  timeout_s: number,
): Promise<Result<void, MtError>> {
  const end = Date.now() + timeout_s * 1000;
  const made = await calls.make(freshCalls(occasion), timeout_s);
  if (made.isErr()) return err(made.error);
  for (const { on, what, command } of FRESH) {
    if (!command || !on.includes(occasion)) continue;
    const left_s = Math.max(0.1, (end - Date.now()) / 1000);
    const done = await runInGuest(agent, command(), { timeout_s: left_s, output_bytes_max: 1024 });
    if (done.isErr()) return err(done.error);
    if (done.value.code !== 0)
      return fail("failed", `Cannot renew ${what}: ${done.value.stderr.trim() || "no reason given"}`);
  }
  return ok(undefined);
}
