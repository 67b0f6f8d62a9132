/**
 * What a kind of guest is: what it needs of its image, how its QEMU is called, how far it must have come to be paused or
 * made a template of, how it is told who it is. mt-boot's other files know guests by this alone; platforms.ts lists
 * the kinds.
 */
import type { Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import type { Guest, Image } from "../../../shared/records/index.ts";
import type { Agent } from "../guest/agent.ts";
import type { Calls } from "../guest/calls.ts";

/** How guest code runs: on the processor, or translated. */
export type Accelerator = "kvm" | "tcg";

export interface Disk {
  /** qcow2, in the store. */
  base: string;
  /** qcow2, the guest's own. */
  overlay: string;
}

/** Memory that is a file: a template writes into it; a clone starts from it and keeps what it changes to itself. */
export interface MemoryFile {
  path: string;
  role: "template" | "clone";
}

/** What one guest starts from. */
export interface Boot {
  platform: Platform;
  experiment: string;
  /** One guest, no range. */
  guest: Guest;
  /** Its directory. */
  dir: string;
  kernel: string;
  initrd: string;
  /** Where its image has one. */
  disk?: Disk;
  cmdline?: Image["cmdline"];
  accelerator: Accelerator;
  /** Absent: anonymous memory. */
  memory?: MemoryFile;
  /** A file with the state that it goes on from, of its devices and of memory that is no file; absent: it boots. */
  state?: string;
}

/** The two ports of a guest, as its QEMU's host side serves them. */
export interface Ports {
  agent: Agent;
  calls: Calls;
}

/**
 * `told`: it is told who it is, as a clone at its barrier or after a cold boot. `goes on`: it was stopped, and may
 * have been saved meanwhile. `restored`: it goes on from a file, from which others may go on too.
 */
export type Occasion = "told" | "goes on" | "restored";

export interface Platform {
  /** The program that runs its guests. */
  qemu: string;
  /** The kernel command line of a probe: it must print something as early as it can. */
  probe_cmdline: string;
  /** Files of the store that a guest boots from. Errors, with {id} for the guest: data. */
  files(image: Image): Result<Pick<Boot, "kernel" | "initrd"> & { base?: string }, MtError>;
  /** Why its guests cannot be clones of a template; undefined where they can. */
  cannotFork(image: Image): string | undefined;
  /** QEMU's words, without the program. The guest's directory stands in them (guestMark). */
  argv(boot: Boot): string[];
  /** Waits for the barrier in its boot, where guests are paused. */
  reachBarrier(ports: Ports, timeout_s: number): Promise<Result<void, MtError>>;
  /** The rest that all clones have in common, done once in their template before its state is saved. */
  prepareTemplate(ports: Ports, timeout_s: number): Promise<Result<void, MtError>>;
  /** Tells it who it is, and reads back that it is. May be done again. */
  giveIdentity(ports: Ports, guest: Guest, image: Image, timeout_s: number): Promise<Result<void, MtError>>;
  /** Makes anew, in a guest that has its identity, what copies of its memory may have too. Begin before it goes on. */
  makeFresh(
    ports: Ports,
    occasion: Exclude<Occasion, "told">,
    timeout_s: number,
  ): Promise<Result<void, MtError>>;
  /** Tells one that has its identity what the plan has changed on its links. */
  tellLinks(ports: Ports, guest: Guest, timeout_s: number): Promise<Result<void, MtError>>;
}
