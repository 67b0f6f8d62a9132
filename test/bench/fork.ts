/**
 * Guests forked from a template, beside the same ones booted cold: seconds, memory, processor time, and how many
 * fit on the machine; how many equal pages remain that all of them write later; deaths while they come up.
 * BENCH_GUESTS (100) scales all of it, and promises are tried at 100 only; BENCH_PARTS names the parts to run.
 */
import { spawn } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { routerNamespace } from "../../shared/host/names.ts";
import type { Guest } from "../../shared/records/index.ts";
import { guestMembers } from "../../shared/records/members.ts";
import { guestLab, lansOf, TIMED, type Up } from "./guests.ts";
import { report } from "./measure.ts";
import { availableMib, cpuSeconds, qemusOf } from "./processes.ts";

const HOST = process.env.BENCH_HOST ?? "mbf1";
const N = Number(process.env.BENCH_GUESTS ?? 100);
const PARTS = process.env.BENCH_PARTS?.split(",");
const READ_MIB = 40;
const SWEEP_S = 60;
const IDLE_S = 20;

const { dir, env, state, sh, lines, lay, up, toldOfUp, down, ksmReport, clean, remove } = guestLab(HOST);
const qemus = (seen?: Map<number, boolean>) => qemusOf(dir, seen);
const promised = (promise: Parameters<typeof report>[3]) => (N === 100 ? promise : undefined);
const wait = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
/** All must be ready, or the measurement is not of what was asked for. */
function allReady(n: number, { sample, code }: Pick<Up, "sample" | "code">): void {
  if (sample.ready !== n || code !== 0)
    throw new Error(`${sample.ready} of ${n} guests are ready, mt-boot up ended with ${code}`);
}
async function idleCpu(): Promise<number> {
  await wait(10);
  const pids = qemus();
  const before = cpuSeconds(pids);
  const began = performance.now();
  await wait(IDLE_S);
  return (cpuSeconds(pids) - before) / ((performance.now() - began) / 1000) / pids.length;
}

const parts: Record<string, () => Promise<void>> = {
  async launch() {
    lay(N);
    const forked = up("--boot fork");
    allReady(N, forked);
    const memory = ksmReport();
    report(
      `${N} forked guests, mt-boot up to all ready, template there`,
      forked.seconds,
      "s",
      promised({ atMost: 30 }),
    );
    report("– one clone restored, median, among the others", forked.sample.restored_ms!, "ms");
    report(
      "– proportional memory a guest of 128 MiB, with its VMM",
      memory.pss_mib! / N,
      "MiB",
      promised({ atMost: 32 }),
    );
    report("– resident memory a guest, with its VMM", memory.rss_mib! / N, "MiB");
    report("– the tool's own CPU a guest", (forked.tool_cpu_s / N) * 1000, "ms", promised({ atMost: 15 }));
    down();
    lay(N);
    const cold = up("--boot cold", 1800);
    allReady(N, cold);
    report(`– beside: the same ${N} booted cold`, cold.seconds, "s");
    report("– forked, so many times as fast", cold.seconds / forked.seconds, "×", promised({ atLeast: 4.5 }));
    down();
  },

  async clone() {
    lay(Math.min(N, 40));
    const { sample } = up("--boot fork --paused --jobs 1");
    report("one clone restored, one at a time, median", sample.restored_ms!, "ms", promised({ atMost: 40 }));
    down();
  },

  async curve() {
    for (const n of (process.env.BENCH_CURVE?.split(",").map(Number) ?? [N / 4, N / 2, N, 2 * N, 4 * N]).map(
      Math.round,
    )) {
      lay(n);
      const before_mib = availableMib();
      const all = up("--boot fork");
      allReady(n, all);
      const idle = await idleCpu();
      const taken_mib = (before_mib - availableMib()) / n;
      report(`curve, ${n} guests: mt-boot up to all ready`, all.seconds, "s");
      report("– memory a guest (PSS)", all.sample.pss_mib!, "MiB");
      report("– memory a guest, as the machine has less of it", taken_mib, "MiB");
      report("– idle CPU a guest", idle * 100, "% of a core");
      if (n === 4 * N) {
        sweep(n);
        stop(n);
      } else down();
    }
  },

  async deaths() {
    const n = 2 * N;
    lay(n);
    const asked = spawn(
      "bash",
      ["-c", `mt-tree map -- bash -c '${TIMED}' bash --boot fork <laid >out 2>said`],
      { cwd: dir, env, stdio: "ignore" },
    );
    let code: number | undefined;
    asked.on("close", (c) => (code = c ?? 255));
    // One of every ten that come, at a random moment within a second.
    const seen = new Map<number, boolean>();
    const come = new Set<number>();
    let killed = 0;
    let victim = Math.floor(Math.random() * 10);
    while (code === undefined && !state.stopped) {
      for (const pid of qemus(seen)) {
        if (come.has(pid)) continue;
        come.add(pid);
        const turn = (come.size - 1) % 10;
        if (turn === 0) victim = Math.floor(Math.random() * 10);
        if (turn === victim)
          setTimeout(() => {
            // It is still the same process, and the launch is still running.
            if (code !== undefined || !qemus().includes(pid)) return;
            process.kill(pid, "SIGKILL");
            killed++;
          }, Math.random() * 1000);
      }
      await wait(0.1);
    }
    if (state.stopped) throw new Error("interrupted");
    const { sample } = toldOfUp();
    // One that was killed at the last moment is being started again.
    for (let s = 0; s < 60 && qemus().length < n; s++) await wait(1);
    report(`${n} asked, ${killed} of ${come.size} QEMUs killed meanwhile: ready`, sample.ready!, "guests", {
      atLeast: n,
    });
    report("– exit code", code!, "", { atMost: 0 });
    report("– QEMUs there", qemus().length, "", { atLeast: n, atMost: n });
    // A tenth, less those that the launch's end came before.
    report("– killed of those that came", (100 * killed) / come.size, "%", promised({ atLeast: 9 }));
    down();
  },

  async merge() {
    // The file that all read: random, so that no two of its pages are alike; served from the router's namespace.
    const bytes = Buffer.alloc(READ_MIB * 2 ** 20);
    for (let at = 0; at < bytes.length; at += 2 ** 20) randomFillSync(bytes, at, 2 ** 20);
    writeFileSync(join(dir, "data"), bytes);
    // The memory of a guest that shares nothing: booted cold, nothing merged.
    const alone = 4;
    lay(alone, 1);
    allReady(alone, up("--boot cold"));
    await readAll(alone, bytes.length);
    const alone_mib = ksmReport().rss_mib! / alone;
    report(
      `a guest that shares nothing, having read ${READ_MIB} MiB: holds (RSS, VMM included)`,
      alone_mib,
      "MiB",
    );
    down();

    lay(N, 1);
    const before_mib = availableMib();
    allReady(N, up("--boot fork"));
    await readAll(N, bytes.length);
    report("– take together before merging (PSS)", ksmReport().pss_mib!, "MiB");
    sh("mt-tree map -- mt-ksm settle --timeout 300 <laid >settled", 360);
    const { rss_mib, pss_mib } = ksmReport() as { rss_mib: number; pss_mib: number };
    const less_mib = before_mib - availableMib();
    report("– take together (sum of PSS)", pss_mib, "MiB");
    report("– take together, as the machine has less of it", less_mib, "MiB");
    // The larger of the two: PSS does not know the kernel's own share, the machine's does not count file pages.
    const taken_mib = Math.max(pss_mib, less_mib);
    report(
      "– held without sharing, over taken",
      (alone_mib * N) / taken_mib,
      "×",
      promised({ atLeast: 3.75 }),
    );
    // RSS leaves out what a clone never touched of its template.
    report("– the clones' own RSS, over taken", rss_mib / taken_mib, "×");
    sh("mt-tree map -- mt-ksm down <laid >/dev/null", 300);
    down();
  },

  async limit() {
    const n = 10 * N;
    lay(n);
    const { sample, seconds } = up("--boot fork --until-full", 2400);
    report(`${n} asked of this machine: ready`, sample.ready!, "guests");
    report("– in", seconds, "s");
    const planned = lines("out").find((r) => r.kind === "guest" && r.state === "planned");
    const why =
      (planned?.error as { message: string } | undefined)?.message ?? "it took all that were asked for";
    process.stdout.write(`– and no more: ${why}\n`);
    down();
  },
};

/** Every guest runs a command that reaches the next one, all in one exec. */
/** Every guest fetches the same bytes from its router and keeps them. */
async function readAll(n: number, length: number): Promise<void> {
  const namespace = routerNamespace(HOST, "bench", "r0");
  const program = `const data = require("fs").readFileSync(${JSON.stringify(join(dir, "data"))});
    const serve = (socket) => socket.on("error", () => {}).end(data);
    require("net").createServer({ allowHalfOpen: true }, serve).listen(80, "10.1.0.1");`;
  const server = spawn("ip", ["netns", "exec", namespace, process.execPath, "-e", program], {
    stdio: "ignore",
  });
  try {
    const listens = `ip netns exec '${namespace}' bash -c '</dev/tcp/10.1.0.1/80'`;
    sh(`until ${listens}; do sleep 0.1; done 2>/dev/null`, 20);
    const fetch =
      "mkdir /d && mount -t tmpfs -o size=48m none /d && nc 10.1.0.1 80 </dev/null >/d/data; wc -c </d/data";
    sh(
      `mt-tree map -- mt-boot exec --only --jobs 4 --timeout 280 -- sh -c '${fetch}' <laid >read || true`,
      1800,
    );
  } finally {
    server.kill();
  }
  const told = lines("read").filter((r) => r.kind === "exit");
  const wrong = told.filter((r) => String(r.stdout).trim() !== String(length));
  if (wrong.length > 0) process.stdout.write(`– one that did not: ${JSON.stringify(wrong[0])}\n`);
  report(`${n} guests, each reads the same ${READ_MIB} MiB: did`, told.length - wrong.length, "guests", {
    atLeast: n,
  });
}

function sweep(n: number): void {
  // Each guest a record with the address of the next on its LAN.
  const size = n / lansOf(n);
  const stream = lines("laid").flatMap((record) => {
    if (record.kind !== "guest") return [record];
    return guestMembers(record as unknown as Guest)
      ._unsafeUnwrap()
      .map((guest) => {
        const [lan, place] = [Math.floor(guest.index / size), guest.index % size];
        return { ...guest, next: `10.${lan + 1}.0.${10 + ((place + 1) % size)}` };
      });
  });
  writeFileSync(join(dir, "pairs"), stream.map((record) => `${JSON.stringify(record)}\n`).join(""));
  const began = performance.now();
  sh("mt-tree map -- mt-boot exec --only -- ping -c 1 -W 10 '{next}' <pairs >swept || true", 600);
  const seconds = (performance.now() - began) / 1000;
  const good = lines("swept").filter((r) => r.kind === "exit" && r.code === 0).length;
  report(
    `${n} guests at once: exec, and a ping of the next, answered`,
    good,
    "guests",
    promised({ atLeast: 400 }),
  );
  report("– one sweep over all of them", seconds, "s", promised({ atMost: SWEEP_S }));
}

/** Ended, and nothing left of them. */
function stop(n: number): void {
  const began = performance.now();
  sh("mt-tree map -- mt-boot down <laid >/dev/null", 120);
  const seconds = (performance.now() - began) / 1000;
  report(`${n} guests stopped`, seconds, "s", promised({ atMost: 10 }));
  const files = sh(
    `find '${join(dir, "run")}' -path '*/experiments/bench/*' -name '*boot*' -o -path '*/bench/g/*'`,
  );
  const left = qemus().length + files.split("\n").filter(Boolean).length;
  report("– QEMUs and files of theirs that are left", left, "", { atMost: 0 });
  sh("mt-tree map -- mt-vnet down <laid >/dev/null", 120);
}

function complain(why: string): void {
  process.stderr.write(`fork: ${why.slice(0, 4000)}\n`);
  process.exitCode = 1;
}
try {
  const unknown = PARTS?.filter((p) => !Object.hasOwn(parts, p)) ?? [];
  if (!(N >= 4) || unknown.length > 0)
    throw new Error(`BENCH_GUESTS=${N} BENCH_PARTS=${unknown}: no such thing`);
  sh("mt-image build tux --cache /var/lib/megatux/cache/packages", 300);
  sh(`mt-tree up ${HOST} >hosts`);
  // The template, and whether KVM works here.
  lay(1);
  const first = up("--boot fork");
  allReady(1, first);
  report("the first guest of an image, its template made for it", first.seconds, "s");
  down();
  for (const [name, part] of Object.entries(parts)) {
    if (PARTS?.includes(name) === false) continue;
    // When one part fails, the others still run.
    await part().catch((thrown: Error) => {
      complain(`${name}: ${thrown.message}`);
      if (state.stopped) throw thrown;
      clean();
    });
  }
} catch (thrown) {
  complain((thrown as Error).message);
} finally {
  remove();
}
