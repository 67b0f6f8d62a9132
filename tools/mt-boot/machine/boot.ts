/** What one guest starts from: its kernel, disk and memory. */
import type { Guest, Image } from "../../../shared/records/index.ts";

/** How guest code runs: on the processor, or translated. */
export type Accelerator = "kvm" | "tcg";

export interface Disk {
  /** qcow2, in the store. */
  base: string;
  /** qcow2, the guest's own. */
  overlay: string;
}

/** Memory that is a file: a template writes into it, a clone starts from it and keeps what it changes to itself. */
export interface MemoryFile {
  path: string;
  role: "template" | "clone";
}

export interface Boot {
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
  /** Absent: memory that is nobody else's. */
  memory?: MemoryFile;
  /** A file with the state that it goes on from, of its devices and of memory that is no file; absent: it boots. */
  state?: string;
}
