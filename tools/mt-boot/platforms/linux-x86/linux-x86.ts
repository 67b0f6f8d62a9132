/**
 * Linux on x86-64, as mt-image builds it: a kernel that QEMU starts itself, an initial RAM disk, perhaps a disk. The
 * agent is qemu-ga; system calls come in by a port of their own (shared/guest-protocol.ts).
 */
import { err, ok } from "neverthrow";
import { fail } from "../../../../shared/errors.ts";
import { CONSOLE } from "../../../../shared/guest-protocol.ts";
import { storePath } from "../../../../shared/host/names.ts";
import { runInGuest } from "../../guest/agent.ts";
import type { Platform } from "../platform.ts";
import { QEMU, qemuArgv } from "./argv.ts";
import { makeFresh } from "./fresh.ts";
import { awaitCalls, giveIdentity, tellMtus } from "./identity.ts";
import { makeOwn } from "./own.ts";

export const linuxX86: Platform = {
  qemu: QEMU,
  // Not quiet.
  probe_cmdline: `console=${CONSOLE} panic=-1`,

  files({ id, files }) {
    if (!files)
      return fail(
        "data",
        `Cannot boot {id}: image ${id} has no files`,
        "mt-image build, then write the plan again",
      );
    const kernel = storePath(files.kernel);
    const initrd = storePath(files.initrd);
    if (kernel.isErr()) return err(kernel.error);
    if (initrd.isErr()) return err(initrd.error);
    const both = { kernel: kernel.value, initrd: initrd.value };
    return files.disk === undefined ? ok(both) : storePath(files.disk).map((base) => ({ ...both, base }));
  },

  // Clones would share what the template has cached of its own disk.
  cannotFork: ({ files }) => (files?.disk === undefined ? undefined : "its image has a disk"),

  argv: qemuArgv,

  /** Where the agent answers, init has come that far. */
  reachBarrier: ({ agent }, timeout_s) => agent.sync(timeout_s),

  async prepareTemplate(ports, timeout_s) {
    const waits = await awaitCalls(ports, timeout_s);
    if (waits.isErr()) return waits;
    // Run once here, a program's start costs each clone a seventh less: the agent's symbols are bound, its pages there.
    const limits = { timeout_s, output_bytes_max: 1024, session: true };
    return (await runInGuest(ports.agent, ["true"], limits)).map(() => undefined);
  },

  async giveIdentity(ports, guest, image, timeout_s) {
    const end = Date.now() + timeout_s * 1000;
    const given = await giveIdentity(ports, guest, timeout_s);
    // One with a disk also has files that only it may have.
    if (given.isErr() || image.files?.disk === undefined) return given;
    return makeOwn(ports.agent, Math.max(0.1, (end - Date.now()) / 1000));
  },

  makeFresh,
  tellLinks: ({ calls }, guest, timeout_s) => tellMtus(calls, guest, timeout_s),
};
