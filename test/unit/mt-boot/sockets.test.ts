/**
 * mt-boot's two protocols: QMP against a real QEMU that runs nothing (-S), the agent's framing against a
 * socket that answers as qemu-ga does; finding and ending QEMU by its command line.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { guestDir } from "../../../shared/host/names.ts";
import { findProgram, waitFor } from "../../../shared/host/process.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { openAgent, runInGuest } from "../../../tools/mt-boot/guest/agent.ts";
import { connectMachine, preflight, spawnQemu } from "../../../tools/mt-boot/machine/machine.ts";
import { endGuests, livingGuests } from "../../../tools/mt-boot/machine/processes.ts";
import { openQmp } from "../../../tools/mt-boot/machine/qmp.ts";
import { QEMU } from "../../../tools/mt-boot/platforms/linux-x86/argv.ts";
import { linuxX86 } from "../../../tools/mt-boot/platforms/linux-x86/linux-x86.ts";

const EXPERIMENT = "mtt-boot";
const GUEST: Guest = {
  kind: "guest",
  id: "g1",
  host: "h",
  index: 0,
  image: "tux",
  cores: 1,
  mem_mib: 64,
  interfaces: [],
};
const dir = mkdtempSync(join(tmpdir(), "mtt-boot-"));
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

const boot = (id: string) => ({
  platform: linuxX86,
  experiment: EXPERIMENT,
  guest: { ...GUEST, id },
  dir: guestDir(EXPERIMENT, id),
  // No kernel will start from this: QEMU comes up and its firmware finds nothing to run.
  kernel: findProgram(QEMU)._unsafeUnwrap(),
  initrd: findProgram(QEMU)._unsafeUnwrap(),
  accelerator: "tcg" as const,
});

describe.skipIf(findProgram(QEMU).isErr())("QEMU", () => {
  test("QMP: commands in any order, errors as values, events, and the end of QEMU", async () => {
    const path = join(dir, "qmp");
    const child = spawn(
      QEMU,
      ["-S", "-M", "none", "-display", "none", "-nodefaults", "-qmp", `unix:${path},server=on,wait=off`],
      { stdio: "ignore" },
    );
    try {
      const events: string[] = [];
      let closed = false;
      const options = {
        timeout_s: 20,
        onEvent: (e: { event: string }) => events.push(e.event),
        onClose: () => (closed = true),
      };
      const qmp = (await openQmp(path, options))._unsafeUnwrap();
      const [status, bad] = await Promise.all([qmp.call("query-status"), qmp.call("no-such-command")]);
      expect(status._unsafeUnwrap()).toMatchObject({ running: false });
      expect(bad._unsafeUnwrapErr().message).toContain("no-such-command");
      expect((await qmp.call("cont")).isOk()).toBe(true);
      expect(await waitFor(() => events.includes("RESUME") || undefined, 10)).toBe(true);
      // A second client is not served while we hold the first.
      expect((await openQmp(path, { timeout_s: 0.3 })).isErr()).toBe(true);
      child.kill("SIGKILL");
      expect(await waitFor(() => closed || undefined, 10)).toBe(true);
      expect((await qmp.call("query-status"))._unsafeUnwrapErr().code).toBe("lost");
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("a QEMU that cannot start says why", async () => {
    const spawned = spawnQemu(boot("g1"))._unsafeUnwrap();
    const held = await connectMachine(spawned.pid, boot("g1").dir, { timeout_s: 20 });
    expect(held.isErr() && held.error.code).toBe("lost");
    expect(await spawned.ended).toMatch(/ended with code 1: qemu.*kernel/);
    expect(spawned.complaint()).toMatch(/^(?!qemu).*kernel/);
  });

  test("what is missing on the host is said before anything is started", () => {
    const missing = { ...boot("g1"), guest: { ...GUEST, interfaces: [{ segment: "s" }] } };
    expect(preflight(missing)._unsafeUnwrapErr()).toMatchObject({ code: "unavailable", hint: "mt-vnet up" });
    expect(preflight({ ...missing, kernel: join(dir, "no") })._unsafeUnwrapErr().hint).toBe("mt-push");
  });

  test("guests are found by their command line alone, and only they are ended", async () => {
    // Its command line names the guest's directory too, but not as QEMU's does.
    const decoy = spawn("sh", ["-c", "read x", guestDir(EXPERIMENT, "g1")], {
      stdio: ["pipe", "ignore", "ignore"],
    });
    // Needs a kernel that QEMU takes: 8 KiB with the signature of a boot sector are enough for its loader.
    const kernel = join(dir, "kernel");
    const bytes = Buffer.alloc(8192);
    bytes.writeUInt16LE(0xaa55, 510);
    bytes.write("HdrS", 514);
    bytes.writeUInt16LE(0x0202, 518);
    writeFileSync(kernel, bytes);
    try {
      for (const id of ["g1", "g10"]) {
        const started = { ...boot(id), kernel, initrd: kernel };
        const { pid } = spawnQemu(started)._unsafeUnwrap();
        const held = await connectMachine(pid, started.dir, { timeout_s: 20 });
        held._unsafeUnwrap().close();
      }
      const living = livingGuests(EXPERIMENT);
      expect(living.map((l) => l.dir).sort()).toEqual([
        guestDir(EXPERIMENT, "g1"),
        guestDir(EXPERIMENT, "g10"),
      ]);
      expect(livingGuests(`${EXPERIMENT}2`)).toEqual([]);
      const g1 = living.find((l) => l.dir === guestDir(EXPERIMENT, "g1"))!;
      // A reused pid: the directory is not in its command line.
      expect(await endGuests([g1, { pid: decoy.pid!, dir: g1.dir }])).toEqual([]);
      expect(livingGuests(EXPERIMENT).map((l) => l.dir)).toEqual([guestDir(EXPERIMENT, "g10")]);
      expect(existsSync(`/proc/${decoy.pid}`) && decoy.exitCode === null && decoy.signalCode === null).toBe(
        true,
      );
    } finally {
      decoy.kill("SIGKILL");
      await endGuests(livingGuests(EXPERIMENT));
    }
  });
});

describe("the guest agent", () => {
  /** Answers as qemu-ga does: a line a request, a delimited sync with 0xFF in front. */
  const serve = (
    path: string,
    answer: (request: { execute: string; arguments?: { id?: number } }) => string | Buffer | undefined,
  ): Promise<Server> =>
    new Promise((resolve) => {
      const server = createServer((socket) => {
        socket.on("error", () => {});
        let tail = Buffer.alloc(0);
        socket.on("data", (chunk) => {
          tail = Buffer.concat([tail, chunk]);
          for (let at = tail.indexOf(10); at >= 0; at = tail.indexOf(10)) {
            const line = tail.subarray(0, at);
            tail = tail.subarray(at + 1);
            const reply = answer(JSON.parse(line.subarray(line.lastIndexOf(0xff) + 1).toString()));
            if (reply !== undefined) socket.write(reply);
          }
        });
      }).listen(path, () => resolve(server));
    });
  const delimited = (id: number | undefined) =>
    Buffer.concat([Buffer.from([0xff]), Buffer.from(`{"return": ${id}}\n`)]);

  test("finds the way back after a timeout: an answer that comes late is not taken for the next one", async () => {
    const path = join(dir, "agent1");
    let slow = true;
    const server = await serve(path, (request) => {
      if (request.execute === "guest-sync-delimited") return delimited(request.arguments?.id);
      if (request.execute === "guest-slow" && slow) {
        slow = false;
        return undefined;
      }
      return request.execute === "guest-next" ? `{"return": "next"}\n` : `{"return": "slow"}\n`;
    });
    const agent = (await openAgent(path, { timeout_s: 5 }))._unsafeUnwrap();
    try {
      expect((await agent.sync(5)).isOk()).toBe(true);
      expect((await agent.call("guest-slow", undefined, 0.2))._unsafeUnwrapErr().code).toBe("timeout");
      expect((await agent.call("guest-next"))._unsafeUnwrap()).toBe("next");
      const both = await Promise.all([agent.call("guest-slow"), agent.call("guest-next")]);
      expect(both.map((r) => r._unsafeUnwrap())).toEqual(["slow", "next"]);
    } finally {
      agent.close();
      server.close();
    }
  });

  test("junk before a delimited answer, and answers to somebody else's sync, are skipped", async () => {
    const path = join(dir, "agent2");
    const server = await serve(path, (request) =>
      Buffer.concat([Buffer.from(`{"return": 5}\n{"ret`), delimited(7), delimited(request.arguments?.id)]),
    );
    const agent = (await openAgent(path, { timeout_s: 5 }))._unsafeUnwrap();
    expect((await agent.sync(5)).isOk()).toBe(true);
    agent.close();
    expect((await agent.call("guest-info"))._unsafeUnwrapErr().code).toBe("lost");
    server.close();
  });

  test("an agent that ended under its answer is found out long before the time limit", async () => {
    const path = join(dir, "agent4");
    const server = await serve(path, (request) => {
      if (request.execute === "guest-sync-delimited") return delimited(request.arguments?.id);
      return request.execute === "guest-exec" ? `{"return": {"pid": 42}}\n` : undefined;
    });
    const agent = (await openAgent(path, { timeout_s: 5 }))._unsafeUnwrap();
    try {
      const began = Date.now();
      const done = await runInGuest(agent, ["yes"], { timeout_s: 60, output_bytes_max: 5, session: true });
      expect(done._unsafeUnwrapErr().message).toMatch(/^Cannot run yes: its output is too large/);
      expect(done._unsafeUnwrapErr().hint).toContain("file");
      expect(Date.now() - began).toBeLessThan(20_000);
    } finally {
      agent.close();
      server.close();
    }
  });

  test("a session of its own: ended whole, its program missing as ever; bytes that are no text are kept", async () => {
    const path = join(dir, "agent5");
    const asked: string[] = [];
    const base64 = (bytes: string | number[]) => Buffer.from(bytes as string).toString("base64");
    const said: Record<string, object> = {
      nosuch: {
        exited: true,
        exitcode: 127,
        "err-data": base64("setsid: can't execute 'nosuch': No such file or directory\n"),
      },
      binary: { exited: true, exitcode: 0, "out-data": base64([0x66, 0xff, 0xc3]), "err-data": base64("ü") },
      slow: { exited: false },
    };
    let current = "";
    const server = await serve(path, (request) => {
      const words = request.arguments as { id?: number; path?: string; arg?: string[] } | undefined;
      if (request.execute === "guest-sync-delimited") return delimited(words?.id);
      if (request.execute === "guest-exec") {
        asked.push([words!.path, ...words!.arg!].join(" "));
        if (words!.path === "setsid") current = words!.arg![1]!;
        return `{"return": {"pid": 42}}\n`;
      }
      return `${JSON.stringify({ return: said[current] })}\n`;
    });
    const agent = (await openAgent(path, { timeout_s: 5 }))._unsafeUnwrap();
    const limits = { timeout_s: 0.3, output_bytes_max: 99, session: true };
    try {
      const missing = (await runInGuest(agent, ["nosuch"], limits))._unsafeUnwrapErr();
      expect(missing.message).toContain("child process “nosuch” (No such file or directory)");
      expect((await runInGuest(agent, ["binary"], limits))._unsafeUnwrap()).toEqual({
        code: 0,
        stdout: "f\ufffd\ufffd",
        stdout_base64: base64([0x66, 0xff, 0xc3]),
        stderr: "ü",
        truncated: false,
      });
      expect((await runInGuest(agent, ["slow", "-x"], limits))._unsafeUnwrapErr().code).toBe("timeout");
      expect(asked.slice(-2)).toEqual(["setsid -- slow -x", "kill -KILL -- -42"]);
    } finally {
      agent.close();
      server.close();
    }
  });

  test("a command's output is decoded and cut, its code kept; one that does not end is killed in the guest", async () => {
    const path = join(dir, "agent3");
    const asked: string[] = [];
    let polls = 0;
    const server = await serve(path, (request) => {
      asked.push(JSON.stringify(request));
      if (request.execute === "guest-sync-delimited") return delimited(request.arguments?.id);
      if (request.execute === "guest-exec") return `{"return": {"pid": 42}}\n`;
      const exited = asked.some((a) => a.includes('"path":"echo"')) && ++polls === 3;
      const out = Buffer.from("grün!").toString("base64");
      return `${JSON.stringify({ return: exited ? { exited, exitcode: 3, "out-data": out } : { exited } })}\n`;
    });
    const agent = (await openAgent(path, { timeout_s: 5 }))._unsafeUnwrap();
    try {
      const limits = { timeout_s: 5, output_bytes_max: 5 };
      expect((await runInGuest(agent, ["echo", "a b"], limits))._unsafeUnwrap()).toEqual({
        code: 3,
        stdout: "grün",
        stderr: "",
        truncated: true,
      });
      expect(asked.find((a) => a.includes('guest-exec"'))).toContain('"arg":["a b"]');
      const late = await runInGuest(agent, ["sleep", "9"], { timeout_s: 0.2, output_bytes_max: 5 });
      expect(late._unsafeUnwrapErr().code).toBe("timeout");
      expect(asked.some((a) => a.includes('"path":"kill"') && a.includes('"42"'))).toBe(true);
    } finally {
      agent.close();
      server.close();
    }
  });
});
