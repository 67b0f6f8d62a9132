/** Asking a supervisor: one that falls silent is asked again; who has gone takes nothing from who asks as well. */
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { lock } from "../../../shared/host/lock.ts";
import { experimentDir, storePath, supervisorSocket } from "../../../shared/host/names.ts";
import { findProgram, waitFor } from "../../../shared/host/process.ts";
import { ownDir } from "../../../shared/own-place.ts";
import type { Guest, Image } from "../../../shared/records/index.ts";
import { ask } from "../../../tools/mt-boot/client/client.ts";
import { serveUnix } from "../../../tools/mt-boot/http.ts";
import { endGuests, livingGuests } from "../../../tools/mt-boot/machine/processes.ts";
import type { Ledger } from "../../../tools/mt-boot/persist/ledger.ts";
import { qemuVersion, templateKey } from "../../../tools/mt-boot/persist/template.ts";
import { QEMU } from "../../../tools/mt-boot/platforms/linux-x86/argv.ts";
import { linuxX86 } from "../../../tools/mt-boot/platforms/linux-x86/linux-x86.ts";
import type { Boot } from "../../../tools/mt-boot/platforms/platform.ts";
import type { GuestLine, UpRequest } from "../../../tools/mt-boot/protocol.ts";
import { Supervisor } from "../../../tools/mt-boot/supervisor/supervisor.ts";
import { tempDir } from "../shared/fixtures.ts";

const EXPERIMENT = "mtt-ask";
const places = ["MT_RUN", "MT_STATE", "MT_CACHE"];
const saved = places.map((name) => process.env[name]);

beforeEach(() => {
  for (const name of places) process.env[name] = tempDir();
});
afterEach(async () => {
  await endGuests(livingGuests(EXPERIMENT));
  for (const [i, name] of places.entries()) {
    if (saved[i] === undefined) delete process.env[name];
    else process.env[name] = saved[i];
  }
});

describe("a supervisor that sends nothing for too long", () => {
  /** Silent for the first `silent` questions. */
  const serve = async (silent: number) => {
    ownDir(experimentDir(EXPERIMENT));
    let asked = 0;
    const server = await serveUnix(supervisorSocket(EXPERIMENT), {
      ping: async (_, send) => send({ kind: "done", left: 0 }),
      ls: async (_, send, gone) => {
        if (++asked <= silent)
          await new Promise<void>((resolve) => gone.addEventListener("abort", () => resolve()));
        send({ kind: "done", left: asked });
      },
    });
    return { asked: () => asked, close: () => void server.close() };
  };
  const asking = { experiment: EXPERIMENT, host: "h", silence_s: 0.4 };

  test("is asked again, as long as there is hope", async () => {
    const server = await serve(2);
    expect((await ask(asking, "ls", undefined, () => {}))._unsafeUnwrap()).toMatchObject({ left: 3 });
    server.close();
  });

  test("is given up in the end, and at once where the request must not be repeated", async () => {
    const server = await serve(Number.POSITIVE_INFINITY);
    const once = await ask(asking, "ls", undefined, () => {}, false);
    expect([once._unsafeUnwrapErr().code, server.asked()]).toEqual(["timeout", 1]);
    expect((await ask(asking, "ls", undefined, () => {}))._unsafeUnwrapErr().message).toContain(
      "no answer to ls in 0.4 s",
    );
    server.close();
  });
});

/** A request for two guests of an image that QEMU refuses. */
function requestOf(more: Partial<UpRequest>) {
  const bytes = Buffer.from("no kernel");
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  const file = storePath(digest)._unsafeUnwrap();
  mkdirSync(join(file, ".."), { recursive: true, mode: 0o700 });
  writeFileSync(file, bytes);
  const image: Image = {
    ...{ kind: "image", id: "tux", os: "linux", fork: true },
    files: { kernel: digest, initrd: digest },
  };
  const guest: Guest = {
    ...{ kind: "guest", id: "g[0-1]", host: "h", index: 0, image: "tux", cores: 1, mem_mib: 64 },
    interfaces: [],
  };
  const request: UpRequest = {
    ...{ guest, image, paused: false, jobs: 1, retries: 0, ready_timeout_s: 20, answer_timeout_s: 0 },
    ...{ accel: "tcg", boot_mode: "cold", reserve_mib: 0, until_full: false },
    ...more,
  };
  return { file, request, guest };
}

test.skipIf(findProgram(QEMU).isErr())(
  "a guest that is asked for while it is being given up is tried again",
  async () => {
    const { request } = requestOf({});
    const ledger = { put: () => {}, drop: () => {} } as Partial<Ledger> as Ledger;
    const supervisor = new Supervisor(EXPERIMENT, ledger, () => true);
    const { signal } = new AbortController();
    const one: UpRequest = { ...request, guest: { ...request.guest, id: "g0" } };
    let given_up = 0;
    let again: Promise<void> | undefined;
    const lines: GuestLine[] = [];
    supervisor.watch((entry) => {
      if (entry.state !== "failed" || entry.wanted !== undefined) return;
      given_up++;
      again ??= supervisor.up(one, (line) => lines.push(line), signal);
    });
    await supervisor.up(one, () => {}, signal);
    await again;
    expect(given_up).toBe(2);
    expect(lines).toMatchObject([{ id: "g0", state: "failed" }]);
  },
  60_000,
);

test.skipIf(findProgram(QEMU).isErr())(
  "guests that two have asked for are not given up when one of the two goes",
  async () => {
    const { file, request, guest } = requestOf({ paused: true, boot_mode: "fork" });
    // While somebody else makes the template the first guest waits for it, and the second for its turn.
    const boot: Boot = {
      ...{ platform: linuxX86, experiment: EXPERIMENT, guest, dir: "", kernel: file, initrd: file },
      ...{ cmdline: undefined, accelerator: "tcg" },
    };
    const key = templateKey(boot, (await qemuVersion(QEMU))._unsafeUnwrap());
    const path = join(process.env.MT_CACHE!, "templates", `${key}.lock`);
    ownDir(join(path, ".."));
    const unlock = (await lock(path, "the test", 1))._unsafeUnwrap();
    const ledger = { put: () => {}, drop: () => {} } as Partial<Ledger> as Ledger;
    const supervisor = new Supervisor(EXPERIMENT, ledger, () => true);
    const lines: GuestLine[][] = [[], []];
    const [first, second] = [new AbortController(), new AbortController()];
    const up = (n: 0 | 1, { signal }: AbortController) =>
      supervisor.up({ ...request }, (line) => lines[n]!.push(line), signal);
    const both = [up(0, first)];
    expect(await waitFor(() => supervisor.entries.get("g0")?.begun || undefined, 10)).toBe(true);
    expect(supervisor.entries.get("g1")).toMatchObject({ begun: false, driving: expect.anything() });
    both.push(up(1, second));
    first.abort();
    expect([...supervisor.entries.keys()]).toEqual(["g0", "g1"]);
    unlock();
    await Promise.all(both);
    expect(lines[1]!.map(({ id }) => id).sort()).toEqual(["g0", "g1"]);
    for (const { error } of lines[1]!) expect(error?.message).toMatch(/^Cannot make a template for \{id\}: /);
    // Where nobody else has asked for it, it is given up.
    const locked = (await lock(path, "the test", 5))._unsafeUnwrap();
    const third = new AbortController();
    const alone = up(0, third);
    expect(await waitFor(() => supervisor.entries.get("g0")?.begun || undefined, 10)).toBe(true);
    third.abort();
    expect([...supervisor.entries.keys()]).toEqual(["g0"]);
    locked();
    await alone;
  },
  60_000,
);
