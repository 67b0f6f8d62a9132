/**
 * A guest that is dead under a QEMU that lives: real QEMUs with a boot sector that does nothing, taken for ready.
 * Who is told, with which reason; who is left alone; and what the kernel lets such a QEMU write.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { MtError } from "../../../shared/errors.ts";
import { guestDir } from "../../../shared/host/names.ts";
import { findProgram, waitFor } from "../../../shared/host/process.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { connectMachine, spawnQemu } from "../../../tools/mt-boot/machine/machine.ts";
import { endGuests, livingGuests } from "../../../tools/mt-boot/machine/processes.ts";
import { QEMU } from "../../../tools/mt-boot/platforms/linux-x86/argv.ts";
import { linuxX86 } from "../../../tools/mt-boot/platforms/linux-x86/linux-x86.ts";
import { Entry } from "../../../tools/mt-boot/supervisor/entry.ts";
import { Heartbeat, LOOK_MS } from "../../../tools/mt-boot/supervisor/heartbeat.ts";
import { LOG_BYTES_HARD } from "../../../tools/mt-boot/supervisor/log-end.ts";

const EXPERIMENT = "mtt-heartbeat";
const ANSWER_S = 3;
const SIGXFSZ_BIT = 1n << 24n;
const dir = mkdtempSync(join(tmpdir(), "mtt-heart-"));
const saved = process.env.MT_RUN;

beforeAll(() => {
  process.env.MT_RUN = dir;
});
afterAll(async () => {
  await endGuests(livingGuests(EXPERIMENT));
  if (saved === undefined) delete process.env.MT_RUN;
  else process.env.MT_RUN = saved;
  rmSync(dir, { recursive: true, force: true });
});

describe.skipIf(findProgram(QEMU).isErr())("a guest that does not answer", () => {
  let entry: Entry;
  let told: { entry: Entry; error: MtError }[];
  let heartbeat: Heartbeat;
  /** The same guest in the same QEMU, as its supervisor may have it otherwise. */
  let others: Entry[];
  let ready: (answer_timeout_s?: number) => Entry;
  let looking: ReturnType<typeof setInterval>;

  beforeEach(async () => {
    // 8 KiB with the signatures of a boot sector and of Linux are enough for QEMU's loader; nothing in it runs.
    const kernel = join(dir, "kernel");
    const bytes = Buffer.alloc(8192);
    bytes.writeUInt16LE(0xaa55, 510);
    bytes.write("HdrS", 514);
    bytes.writeUInt16LE(0x0202, 518);
    writeFileSync(kernel, bytes);
    const guest: Guest = {
      ...{ kind: "guest", id: "g0", host: "h", index: 0, image: "tux", cores: 1, mem_mib: 64 },
      interfaces: [],
    };
    const boot = {
      platform: linuxX86,
      experiment: EXPERIMENT,
      guest,
      dir: guestDir(EXPERIMENT, "g0"),
      kernel,
      initrd: kernel,
    };
    const { pid } = spawnQemu({ ...boot, accelerator: "tcg" })._unsafeUnwrap();
    const machine = (await connectMachine(pid, boot.dir, { timeout_s: 20 }))._unsafeUnwrap();
    const image = { kind: "image", id: "tux", os: "linux", fork: false } as const;
    const row = { record: guest, image, accel: "tcg", boot_mode: "cold", ready_timeout_s: 9 } as const;
    ready = (answer_timeout_s = ANSWER_S) => {
      const made = new Entry({ ...row, answer_timeout_s, wanted: "ready", state: "planned" }, boot.dir, 0);
      made.spawned({ pid, forked: false, howEnded: async () => "ended" });
      made.connected(machine);
      made.becameReady();
      return made;
    };
    entry = ready();
    told = [];
    others = [];
    heartbeat = new Heartbeat((of, _machine, error) => told.push({ entry: of, error }));
    looking = setInterval(() => heartbeat.look([entry, ...others]), LOOK_MS);
    // It owes an answer from here on.
    expect((await machine.agent.sync(0.1)).isErr()).toBe(true);
  });
  afterEach(async () => {
    clearInterval(looking);
    entry.machine?.close();
    await endGuests(livingGuests(EXPERIMENT));
  });
  const dies = () => waitFor(() => told[0]?.error, 60);

  test("is dead, and said to be, unless it is stopped, driven, not ready, or nobody wants to know", async () => {
    const [saving, driven, paused, silent] = [ready(), ready(), ready(), ready(0)] as const;
    saving.savingBegan();
    driven.driveBegan(Promise.resolve());
    paused.becamePaused();
    others = [saving, driven, paused, silent];
    const error = await dies();
    expect(error?.message).toMatch(
      /^Cannot keep \{id\} running: its agent has not answered for 3 s, and it is (busy|idle)$/,
    );
    expect(error).toMatchObject({ code: "timeout", hint: "it is started again" });
    // As often as it is looked at afterwards, nobody else is.
    await waitFor(() => (told.length > 2 ? true : undefined), 10);
    expect(told.every((each) => each.entry === entry)).toBe(true);
  }, 90_000);

  test("is dead also where it is its QEMU that stands still", async () => {
    process.kill(entry.pid!, "SIGSTOP");
    expect((await dies())?.message).toBe("Cannot keep {id} running: its QEMU has not answered for 3 s");
  }, 90_000);

  test("is left alone where it was stopped behind the supervisor's back", async () => {
    await entry.machine!.qmp.call("stop");
    expect(await waitFor(() => told[0], 3 * ANSWER_S)).toBeUndefined();
    await entry.machine!.qmp.call("cont");
    expect(await dies()).toBeDefined();
  }, 90_000);

  test("its QEMU may write so much into a file, and goes on where that is full", () => {
    expect(readFileSync(`/proc/${entry.pid}/limits`, "utf8")).toMatch(
      new RegExp(`^Max file size +${LOG_BYTES_HARD} +${LOG_BYTES_HARD} `, "m"),
    );
    const ignored = /SigIgn:\s+(\S+)/.exec(readFileSync(`/proc/${entry.pid}/status`, "utf8"))![1]!;
    expect(BigInt(`0x${ignored}`) & SIGXFSZ_BIT).toBe(SIGXFSZ_BIT);
  });
});
