/**
 * Guests forked from a template, on the compiled binaries: what must differ between two clones does, none sees
 * another's memory, whatever is wrong with a template is mended, and as many guests are there as were asked for.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Lab, type Rec, records, until } from "../lab.ts";

/** A name of its own a run: its supervisors are told by it. */
const HOST = `tef${process.pid}`;
const lab = new Lab();
const cache = join(lab.dir, "cache");
lab.env.MT_CACHE = cache;
lab.env.MT_HOST = HOST;
let image: Rec;

beforeAll(() => lab.image(), 120_000);
beforeAll(() => {
  image = records(lab.sh("mt-image ls").stdout)[0]!;
});
afterEach(() => {
  for (const id of ["fk", "fk2", "bad"]) lab.sh(`mt-boot down --experiment ${id}`);
});
afterAll(() => lab.remove());

/** A plan of guests without a network: `count` of them, `g[0-…]`, or what is given for them. */
function plan(id: string, guests: Partial<Rec>[], its_image: Rec = image): string {
  let index = 0;
  const lines = [
    { kind: "experiment", id, version: 1, seed: 7 },
    its_image,
    ...guests.map((guest) => {
      const record = {
        kind: "guest",
        host: HOST,
        image: "tux",
        cores: 1,
        mem_mib: 128,
        interfaces: [],
        ...guest,
        index,
      };
      index += 100;
      return record;
    }),
    { kind: "end", id, counts: {} },
  ];
  const file = join(lab.dir, `${id}.plan`);
  writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  return file;
}

const guestsOf = (stdout: string) => records(stdout).filter((r) => r.kind === "guest");
const bootSample = (stdout: string) => records(stdout).find((r) => r.kind === "sample" && r.id === "boot")!;
const states = (stdout: string) => guestsOf(stdout).map((g) => [g.id, g.state]);
const templates = () =>
  existsSync(join(cache, "templates"))
    ? readdirSync(join(cache, "templates")).filter((f) => !f.endsWith(".lock"))
    : [];
const ramOf = (key: string) => join(cache, "templates", key, "ram");
const digest = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");
const up = (file: string, flags = "") => lab.sh(`mt-boot up ${flags} <${file}`);

test("two clones differ in everything that must differ, and neither sees the other's memory", () => {
  const file = plan("fk", [{ id: "g[0-1]" }]);
  expect(states(up(file, "--boot fork").stdout)).toEqual([["g[0-1]", "ready"]]);
  const [key] = templates();
  const before = digest(ramOf(key!));
  expect(statSync(ramOf(key!)).mode & 0o777).toBe(0o600);
  expect(statSync(join(cache, "templates", key!)).mode & 0o777).toBe(0o700);

  const ask =
    "hostname; cat /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid";
  const told = records(lab.sh(`mt-boot exec 'g[0-1]' -- sh -c '${ask}'`).stdout);
  expect(told.map((r) => r.code)).toEqual([0, 0]);
  const [one, other] = told.map((r) => String(r.stdout).trim().split("\n"));
  expect(one).toHaveLength(4);
  for (const [n, line] of one!.entries()) expect(line).not.toBe(other![n]);
  // The clock is the host's, not the template's.
  const clocks = records(lab.sh("mt-boot exec 'g[0-1]' -- date +%s").stdout);
  for (const clock of clocks) expect(Math.abs(Number(clock.stdout) - Date.now() / 1000)).toBeLessThan(10);

  // What one clone writes into its free memory is nowhere else: not in the template's file, not in the other clone.
  const fill = "dd if=/dev/zero bs=1M count=16 2>/dev/null | tr '\\0' 'Q' >/tmp/fill && sync && echo done";
  expect(lab.sh(`mt-boot exec g0 -- sh -c "${fill}"`).stdout).toContain("done");
  expect(digest(ramOf(key!))).toBe(before);
  for (const pid of lab.guests().values()) {
    const maps = readFileSync(`/proc/${pid}/maps`, "utf8")
      .split("\n")
      .filter((l) => l.includes(`/${key}/ram`));
    expect(maps.length).toBeGreaterThan(0);
    for (const map of maps) expect(map.split(" ")[1]).toMatch(/p$/);
  }
});

test("a template is made once, however many want it; gc removes it when nobody has his memory from it", async () => {
  lab.sh("mt-boot gc");
  expect(templates()).toEqual([]);
  const files = [plan("fk", [{ id: "g[0-1]" }]), plan("fk2", [{ id: "h[0-1]" }])];
  const both = files.map((f) =>
    lab.start("/bin/sh", ["-c", `${join(lab.env.PATH!.split(":")[0]!, "mt-boot")} up --boot fork <${f}`]),
  );
  for (const { done } of both) expect(bootSample((await done).stdout)).toMatchObject({ ready: 2, forked: 2 });
  expect(templates()).toHaveLength(1);
  expect(records(lab.sh("mt-boot gc").stdout)).toMatchObject([{ removed: 0, in_use: 1 }]);
  lab.sh("mt-boot down --experiment fk; mt-boot down --experiment fk2");
  expect(records(lab.sh("mt-boot gc").stdout)).toMatchObject([{ removed: 1, in_use: 0 }]);
  expect(templates()).toEqual([]);
});

test("other memory, another template; one that is truncated, changed or another QEMU's is made anew", () => {
  const small = plan("fk", [{ id: "g0" }, { id: "big", mem_mib: 160 }]);
  expect(bootSample(up(small, "--boot fork").stdout)).toMatchObject({ ready: 2, forked: 2 });
  expect(templates()).toHaveLength(2);
  const noteOf = (key: string) => join(cache, "templates", key, "template.json");
  const made = (key: string) => JSON.parse(readFileSync(noteOf(key), "utf8")).made as string;
  const key = templates().find((k) => JSON.parse(readFileSync(noteOf(k), "utf8")).mem_mib === 128)!;
  const spoil: (() => void)[] = [
    () => truncateSync(ramOf(key), 1 << 20),
    () => writeFileSync(join(cache, "templates", key, "state"), "not the state of any device"),
    () => writeFileSync(noteOf(key), readFileSync(noteOf(key), "utf8").replace(/"format":\d+/, '"format":0')),
  ];
  for (const [n, change] of spoil.entries()) {
    lab.sh("mt-boot down --experiment fk");
    const then = made(key);
    change();
    expect(bootSample(up(plan("fk", [{ id: "g0" }]), "--boot fork").stdout), `spoil ${n}`).toMatchObject({
      ready: 1,
      forked: 1,
    });
    expect(made(key)).not.toBe(then);
  }
});

test("a maker of templates that was killed leaves nothing in the way, and no QEMU", async () => {
  lab.sh("mt-boot gc");
  const file = plan("fk", [{ id: "g0" }]);
  const first = lab.start("/bin/sh", ["-c", `exec mt-boot up --boot fork <${file}`]);
  await until("the template boots", () => lab.guests().has("template"), 20);
  const maker = lab.sh(`pgrep -of 'supervise --host ${HOST} fk'`).stdout.trim();
  process.kill(Number(maker), "SIGKILL");
  // The command asks a new supervisor, which makes the template again.
  expect(states((await first.done).stdout)).toEqual([["g0", "ready"]]);
  expect(templates()).toHaveLength(1);
  expect([...lab.guests().keys()]).toEqual(["g0"]);
});

test("killed at random while they come up, all that were asked for are there; watch tells of each death", async () => {
  const file = plan("fk", [{ id: "g[0-11]" }]);
  const asked = lab.start("/bin/sh", ["-c", `exec mt-boot up <${file}`]);
  const clones = () => lab.clones("fk");
  const killed: number[] = [];
  for (let n = 0; n < 4; n++) {
    await until("another clone", () => clones().some((pid) => !killed.includes(pid)), 60);
    const victim = clones().find((pid) => !killed.includes(pid))!;
    process.kill(victim, "SIGKILL");
    killed.push(victim);
  }
  const done = await asked.done;
  expect(done.code).toBe(0);
  expect(states(done.stdout)).toEqual([["g[0-11]", "ready"]]);

  const watching = lab.start("mt-boot", ["watch", "--experiment", "fk"]);
  let seen = "";
  watching.child.stdout?.on("data", (d) => (seen += d));
  const told = (state: string, from = 0) =>
    seen
      .slice(from)
      .split("\n")
      .some((l) => l.includes('"id":"g5"') && l.includes(`"state":"${state}"`));
  await until("the list", () => told("ready"));
  const from = seen.length;
  process.kill(lab.clones("fk", "g5")[0]!, "SIGKILL");
  await until("its death is told", () => told("failed", from), 10);
  await until("it is back", () => told("ready", from), 60);
  expect(seen.slice(from)).toContain('"code":"lost"');
  lab.sh("mt-boot down --experiment fk");
  expect((await watching.done).code).toBe(0);
  expect(records(seen).every((r) => r.kind === "guest")).toBe(true);
});

test("the supervisor, killed in the middle of it, comes back with the kernel's truth and loses no guest", async () => {
  const file = plan("fk", [{ id: "g[0-7]" }]);
  const asked = lab.start("/bin/sh", ["-c", `exec mt-boot up <${file}`]);
  await until("two clones", () => lab.clones("fk").length >= 2, 60);
  process.kill(Number(lab.sh(`pgrep -of 'supervise --host ${HOST} fk'`).stdout.trim()), "SIGKILL");
  expect(states((await asked.done).stdout)).toEqual([["g[0-7]", "ready"]]);
  const pids = lab.clones("fk").sort();
  expect(pids).toHaveLength(8);
  process.kill(Number(lab.sh(`pgrep -of 'supervise --host ${HOST} fk'`).stdout.trim()), "SIGKILL");
  expect(states(lab.sh("mt-boot ls --experiment fk").stdout)).toEqual([["g[0-7]", "ready"]]);
  expect(lab.clones("fk").sort()).toEqual(pids);
});

const LINE = "console=ttyS0 quiet panic=-1 tsc=reliable clocksource=tsc no_timer_check";

test("an image that panics, one that hangs, one too large: each says why, and the others are there", () => {
  const panics = plan("bad", [{ id: "g[0-6]" }], { ...image, cmdline: `${LINE} rdinit=/bin/false` });
  const all = guestsOf(up(panics, "--retries 1").stdout);
  expect(all.every((g) => g.state === "failed")).toBe(true);
  expect(all[0]!.error).toMatchObject({ by: "mt-boot" });
  expect(JSON.stringify(all[0]!.error)).toContain("its kernel panicked: Attempted to kill init!");
  expect(JSON.stringify(all[0]!.error)).toContain("its console ends: ");
  lab.sh("mt-boot down --experiment bad");

  const hangs = plan("bad", [{ id: "g[0-9]" }], { ...image, cmdline: `${LINE} rdinit=/bin/cat` });
  const hung = guestsOf(up(hangs, "--retries 0 --ready-timeout 5").stdout);
  expect(hung.map((g) => g.id)).toEqual(["g[0-3]", "g[4-9]"]);
  expect(JSON.stringify(hung[0]!.error)).toContain("no answer from its agent in 5 s");
  expect(JSON.stringify(hung[1]!.error)).toContain("none of the first 4 guests of image tux came up");
  lab.sh("mt-boot down --experiment bad");

  const large = plan("bad", [{ id: "g0" }, { id: "huge", mem_mib: 4_000_000 }, { id: "h[0-1]" }]);
  const mixed = up(large);
  expect(mixed.code).toBe(1);
  expect(states(mixed.stdout)).toEqual([
    ["g0", "ready"],
    ["huge", "failed"],
    ["h[0-1]", "ready"],
  ]);
  expect(JSON.stringify(guestsOf(mixed.stdout)[1]!.error)).toMatch(
    /a guest takes \d+ MiB, this host has \d+ left/,
  );
});

test("a disk that is full where templates are: its guests are booted cold; where guests are: each says so", () => {
  const tiny = join(lab.dir, "tiny");
  lab.sh(`mkdir -p ${tiny} && mount -t tmpfs -o size=16m,mode=700 tmpfs ${tiny}`);
  try {
    const file = plan("fk", [{ id: "g0" }]);
    const cold = lab.sh(`MT_CACHE=${tiny} mt-boot up <${file}`);
    expect(bootSample(cold.stdout)).toMatchObject({ ready: 1, forked: 0 });
    lab.sh("mt-boot down --experiment fk");
    const forked = lab.sh(`MT_CACHE=${tiny} mt-boot up --boot fork --retries 0 <${file}`);
    expect(forked.code).toBe(1);
    expect(JSON.stringify(guestsOf(forked.stdout)[0]!.error)).toMatch(/MiB free, it takes .*make room there/);
  } finally {
    lab.sh(`mt-boot down --experiment fk; umount ${tiny}`);
  }
});

test("until the host is full: what fits is there, the rest is planned and says why; 10,000 are no different", () => {
  const free = Number(/MemAvailable:\s+(\d+)/.exec(readFileSync("/proc/meminfo", "utf8"))![1]) / 1024;
  const reserve = Math.floor(free - 400);
  const file = plan("fk", [{ id: "g[0-9999]" }]);
  const between = "grep -c paused >&2";
  const full = lab.sh(
    `mt-boot up --paused --batch 3 --between '${between}' --until-full --reserve-mib ${reserve} <${file}`,
  );
  expect(full.code).toBe(0);
  expect(full.stderr).toMatch(/^mt-boot: 1$/m);
  const [paused, planned, ...none] = guestsOf(full.stdout);
  expect(none).toEqual([]);
  expect([paused!.state, planned!.state]).toEqual(["paused", "planned"]);
  expect(planned!.error).toMatchObject({ by: "mt-boot", code: "busy" });
  const sample = bootSample(full.stdout);
  expect(Number(sample.paused) + Number(sample.planned)).toBe(10_000);
  expect(full.stderr).toContain(`${sample.paused} of 10000 guests fit on ${HOST}`);
  expect(lab.clones("fk")).toHaveLength(Number(sample.paused));
});

test("saved, taken down and restored: they go on where they were, and what is damaged says so", () => {
  expect(states(up(plan("fk", [{ id: "g[0-2]" }])).stdout)).toEqual([["g[0-2]", "ready"]]);
  lab.sh("mt-boot pause g2");
  const wrote = records(
    lab.sh("mt-boot exec g0 -- sh -c 'hostname >/tmp/me; cat /proc/sys/kernel/random/boot_id /proc/uptime'")
      .stdout,
  );
  const saved = records(lab.sh("mt-boot save kept 'g[0-2]'").stdout);
  expect(saved.map((r) => r.code)).toEqual([0, 0, 0]);
  expect(statSync(join(lab.dir, "kept")).mode & 0o777).toBe(0o700);
  expect(statSync(join(lab.dir, "kept/g0.state")).mode & 0o777).toBe(0o600);
  // They went on.
  expect(states(lab.sh("mt-boot ls --experiment fk").stdout)).toEqual([
    ["g[0-1]", "ready"],
    ["g2", "paused"],
  ]);
  expect(lab.sh("mt-boot save kept g0").code).toBe(64);
  lab.sh("mt-boot down --experiment fk");

  truncateSync(join(lab.dir, "kept/g1.state"), 1000);
  const back = lab.sh("mt-boot restore kept");
  expect(back.code).toBe(1);
  expect(states(back.stdout)).toEqual([
    ["g0", "ready"],
    ["g1", "failed"],
    ["g2", "paused"],
  ]);
  expect(JSON.stringify(guestsOf(back.stdout)[1]!.error)).toMatch(/g1.state has 1000 bytes, \d+ were saved/);
  const [g0] = records(
    lab.sh("mt-boot exec g0 -- sh -c 'cat /proc/sys/kernel/random/boot_id /proc/uptime /tmp/me; date +%s'")
      .stdout,
  );
  const [boot_id, uptime, me, time] = String(g0!.stdout).trim().split("\n");
  const [boot_id_before, uptime_before] = String(wrote[0]!.stdout).trim().split("\n");
  // It did not boot again; what must be new after a restore is new (fresh.ts).
  expect(me).toBe("g0");
  expect(Number.parseFloat(uptime!)).toBeGreaterThan(Number.parseFloat(uptime_before!));
  expect(boot_id).not.toBe(boot_id_before);
  expect(Math.abs(Number(time) - Date.now() / 1000)).toBeLessThan(10);
  expect(lab.sh("mt-boot restore kept g0").stdout).toContain("Cannot restore g0: it runs already");
  expect(lab.sh("mt-boot restore nowhere")).toMatchObject({ code: 65, stdout: "" });
});

test("a run directory on a full disk: each guest says so, and it is taken down when there is room again", () => {
  const tiny = join(lab.dir, "full");
  lab.sh(
    `mkdir -p ${tiny} && mount -t tmpfs -o size=1m,mode=700 tmpfs ${tiny} && head -c 900k /dev/zero >${tiny}/fill`,
  );
  try {
    const full = lab.sh(`MT_RUN=${tiny} mt-boot up --retries 0 <${plan("fk", [{ id: "g[0-39]" }])}`);
    expect(full.code).not.toBe(0);
    const said = guestsOf(full.stdout).filter((g) => g.state === "failed");
    expect(said.length).toBeGreaterThan(0);
    for (const guest of said) expect(guest.error).toMatchObject({ by: "mt-boot", code: "io" });
    const sample = bootSample(full.stdout);
    expect(Number(sample.failed) + Number(sample.ready)).toBe(40);
    lab.sh(`rm ${tiny}/fill`);
    expect(lab.sh(`MT_RUN=${tiny} mt-boot down --experiment fk`)).toMatchObject({ code: 0, stderr: "" });
    expect(readdirSync(join(tiny, "experiments"))).toEqual([]);
  } finally {
    lab.sh(`umount ${tiny}`);
  }
});
