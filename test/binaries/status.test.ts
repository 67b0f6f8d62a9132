/** mt-status: which guests ping which, how it counts, what a true verdict is, and what is left on this machine. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { clusterNamespace } from "../../shared/host/names.ts";
import { waitFor } from "../../shared/host/process.ts";
import { memberAt, parseRange, rangeCount } from "../../shared/nodeset/ranges.ts";
import type { Exit, Guest, Router } from "../../shared/records/index.ts";
import { verdictOf } from "../../tools/mt-status/commands/check.ts";
import { links, mountPoints, ourNamespaces } from "../../tools/mt-status/left/machine.ts";
import { bystanders, isOurs, type ProcessFacts } from "../../tools/mt-status/left/processes.ts";
import {
  countsThatDiffer,
  emptyCensus,
  type GuestRun,
  readInto,
} from "../../tools/mt-status/verdict/census.ts";
import { askable, choosePairs, pairsLeftOut } from "../../tools/mt-status/verdict/pairs.ts";
import { PING_SCRIPT, probeCommand, probePlan } from "../../tools/mt-status/verdict/probe.ts";
import { tallyOf } from "../../tools/mt-status/verdict/tally.ts";
import { expectRecords, type Rec } from "../support/records.ts";

const MT_STATUS = resolve("dist/mt-status");
const header = { kind: "experiment" as const, id: "mtt", version: 1, seed: 7 };

function guest(id: string, lan: number, from: number, state: Guest["state"] = "ready", host = "kn1"): Guest {
  const interfaces = [{ segment: `lan-${lan}`, ip: `10.${lan}.0.${10 + from}/16`, gateway: `10.${lan}.0.1` }];
  return { kind: "guest", id, host, index: from, image: "tux", cores: 1, mem_mib: 128, interfaces, state };
}
function run(record: Guest): GuestRun {
  const range = parseRange(record.id)._unsafeUnwrap();
  return { guest: record, range, count: rangeCount(range) };
}
const runs = [
  run(guest("g[0-3]", 1, 0)),
  run(guest("g[4-5]", 2, 0, "ready", "kn2")),
  run(guest("g6", 2, 2, "failed", "kn2")),
  run(guest("g[7-9]", 3, 0)),
];
const exit = (id: string, host: string, stdout: string): Exit => ({
  kind: "exit",
  id,
  guest: id,
  host,
  code: 0,
  stdout,
});

describe("who pings whom", () => {
  it("has every ready guest ping one ready guest of each other LAN, the same ones for the same seed", () => {
    const sources = choosePairs(runs, 7, 16);
    expect(sources.map((s) => s.run.guest.id)).toEqual(["g[0-3]", "g[4-5]", "g[7-9]"]);
    for (const { run: source, targets } of sources) {
      expect(targets).toHaveLength(2);
      const own = source.guest.interfaces[0]!.ip!.split(".").slice(0, 2).join(".");
      for (const t of targets) expect(t.ip.startsWith(`${own}.`)).toBe(false);
    }
    expect(choosePairs(runs, 7, 16)).toEqual(sources);
    expect(sources.flatMap((s) => s.targets).some((t) => t.guest === "g6")).toBe(false);
    const drawn = new Set(
      Array.from({ length: 40 }, (_, seed) => choosePairs(runs, seed, 16)[1]!.targets[0]!.guest),
    );
    expect(drawn.size).toBeGreaterThan(2);
  });

  it("gives a target the name and the address of one member", () => {
    const numbers: Record<string, number> = { "g[0-3]": 0, "g[4-5]": 4, "g[7-9]": 7 };
    const firsts = Object.values(numbers);
    for (const { targets } of choosePairs(runs, 3, 16))
      for (const { guest: name, ip } of targets) {
        const n = Number(name.slice(1));
        const first = Math.max(...firsts.filter((f) => f <= n));
        expect(ip).toBe(`10.${firsts.indexOf(first) + 1}.0.${10 + n - first}`);
      }
  });

  it("keeps to the limit with many LANs, and still asks every guest", () => {
    const many = Array.from({ length: 100 }, (_, lan) => run(guest(`m${lan}x[0-9]`, lan + 1, 0)));
    const sources = choosePairs(many, 1, 16);
    expect(sources).toHaveLength(100);
    expect(sources.every((s) => s.targets.length === 16)).toBe(true);
    expect(new Set(sources.flatMap((s) => s.targets.map((t) => t.guest))).size).toBeGreaterThan(80);
  });

  it("has the guests of the only LAN ping one of them, and that one another", () => {
    const lan = [run(guest("g[0-3]", 1, 0)), run(guest("h[0-1]", 1, 4)), run(guest("x", 1, 6, "failed"))];
    for (let seed = 0; seed < 20; seed++) {
      const pings = choosePairs(lan, seed, 16).flatMap(({ run: { range, count }, targets }) =>
        Array.from({ length: count }, (_, k) => [memberAt(range, k), ...targets.map((t) => t.guest)]),
      );
      expect(pings.map(([from]) => from)).toEqual(["g0", "g1", "g2", "g3", "h0", "h1"]);
      for (const [from, to] of pings) expect(from).not.toBe(to);
      const asked = new Set(pings.map(([, to]) => to));
      expect(asked.size).toBe(2);
      expect(asked.has("x")).toBe(false);
    }
    expect(choosePairs([run(guest("g0", 1, 0))], 7, 16)).toEqual([]);
    expect([askable(lan), askable([run(guest("g0", 1, 0))]), askable([])]).toEqual([true, false, false]);
    // On two LANs, one guest not ready: none pings its own LAN.
    expect(choosePairs([runs[0]!, runs[2]!], 7, 16)).toEqual([]);
  });

  it("leaves out pairs that cannot be: parts of the network with no way between them", () => {
    const router = (id: string, ...segments: string[]): Router => ({
      ...{ kind: "router", id, index: 0, engine: "bird", protocol: "ospf" },
      interfaces: segments.map((segment) => ({ segment, ip: "10.0.0.1/16" })),
    });
    // LANs 1 and 2 are joined; LAN 3 has a router of its own, and no link.
    const routers = [router("a", "a-b", "lan-1"), router("b", "a-b", "lan-2"), router("alone", "lan-3")];
    const sources = choosePairs(runs, 7, 16, routers);
    const asked = sources.flatMap(({ run: { guest: from, count }, targets }) =>
      targets.map((t) => [from.interfaces[0]!.segment, count, t.ip.split(".").slice(0, 2).join(".")]),
    );
    expect(asked.filter(([lan]) => lan !== "lan-3")).toEqual([
      ["lan-1", 4, "10.2"],
      ["lan-2", 2, "10.1"],
    ]);
    const inside = asked.filter(([lan]) => lan === "lan-3");
    expect(inside.reduce((sum, [, count]) => sum + Number(count), 0)).toBe(3);
    expect(inside.every(([, , net]) => net === "10.3")).toBe(true);
    // Four and two guests have one target less, three have two less; with one target each only those three.
    expect([pairsLeftOut(runs, 16, routers), pairsLeftOut(runs, 1, routers)]).toEqual([4 + 2 + 6, 3]);
    expect(pairsLeftOut(runs, 16, [router("x", "lan-1", "lan-2", "lan-3")])).toBe(0);
    const each = [run(guest("g0", 1, 0)), run(guest("g1", 2, 0))];
    const apart = [router("a", "lan-1"), router("b", "lan-2")];
    expect([choosePairs(each, 7, 16, apart), pairsLeftOut(each, 16, apart)]).toEqual([[], 2]);
    expect([askable(each, apart), askable(each)]).toEqual([false, true]);
    const census = emptyCensus();
    census.hosts.set("kn1", { kind: "host", id: "kn1", cores: 1, mem_mib: 1 });
    for (const one of apart) census.routers.set(one.id, { ...one, state: "converged" });
    for (const one of each) census.guests.set(one.guest.id, one);
    const verdict = verdictOf(census, undefined, tallyOf([]), 1, undefined, 2);
    expect(verdict).toMatchObject({ pairs_tried: 0, pairs_left_out: 2 });
    expect(verdict).not.toHaveProperty("error");
  });

  it("puts targets into records and never into the script", () => {
    const text = probePlan(
      header,
      [
        { kind: "host", id: "kn1", cores: 2, mem_mib: 9 },
        { kind: "host", id: "kn9", cores: 2, mem_mib: 9 },
      ],
      choosePairs(runs, 7, 16),
    );
    const lines = expectRecords(text);
    expect(lines.map((l) => l.kind)).toEqual(["experiment", "host", "guest", "guest", "guest", "end"]);
    expect(lines[2]).toMatchObject({ id: "g[0-3]", targets: [expect.any(String), expect.any(String)] });
    expect(lines[5]!.counts).toEqual({ host: 1, guest: 9 });
    const command = probeCommand(60);
    expect(command.slice(-5)).toEqual(["/bin/sh", "-c", PING_SCRIPT, "probe", "{targets}"]);
    // The script as a shell reads it, with the loopback, an address that no host has, and a hostile word.
    const mark = join(tmpdir(), `mtt-status-${process.pid}`);
    const done = spawnSync("/bin/sh", ["-n", "-c", PING_SCRIPT, "probe", `$(touch ${mark})`], {
      encoding: "utf8",
    });
    expect([done.status, done.stderr, existsSync(mark)]).toEqual([0, "", false]);
  });
});

describe("what is counted", () => {
  const sources = choosePairs(runs, 7, 16);
  const everything = sources.flatMap((s) => s.targets.map((t) => t.ip)).join("\n");
  const all = ["g0", "g1", "g2", "g3", "g7", "g8", "g9"].map((id) => exit(id, "kn1", everything));

  it("counts each guest's answers once, and only to what it was asked", () => {
    const tally = tallyOf(sources);
    for (const record of [...all, all[0]!, exit("g4", "kn2", everything), exit("g99", "kn2", everything)])
      tally.hear(record);
    expect([tally.pairs_tried, tally.reached(), tally.silent()]).toEqual([18, 16, 1]);
    expect(tally.unreached().map(([from]) => from)).toEqual(["g5", "g5"]);
    tally.hear(exit("g5", "kn2", `${sources[1]!.targets[0]!.ip}\nnoise 10.9.9.9`));
    expect([tally.reached(), tally.silent()]).toEqual([17, 0]);
    expect(tally.unreached()).toEqual([["g5", sources[1]!.targets[1]!.guest]]);
  });

  it("tells a target that only a small ping reaches, and where large ones get lost", () => {
    const [a, b] = [guest("a[0-1]", 1, 0), guest("b0", 2, 0, "ready", "kn2")];
    for (const g of [a, b]) g.interfaces[0]!.mtu = 1450;
    const sized = choosePairs([run(a), run(b)], 7, 16);
    expect(probePlan(header, [], sized)).toContain('"targets":["10.2.0.10/1422"]');
    const tally = tallyOf(sized);
    tally.hear(exit("a0", "kn1", "10.2.0.10/1422\n"));
    tally.hear(exit("a1", "kn1", "10.2.0.10\n"));
    tally.hear(exit("b0", "kn2", sized[1]!.targets.map((t) => `${t.ip}\n${t.ip}/1422\n`).join("")));
    expect([tally.pairs_tried, tally.reached(), tally.fullSized(), tally.unreached()]).toEqual([3, 3, 2, []]);
    expect(tally.again(10).map((s) => [s.run.guest.id, s.targets.map((t) => t.ip)])).toEqual([
      ["a1", ["10.2.0.10"]],
    ]);
    const seen = emptyCensus();
    const reads = readInto(seen);
    for (const [id, hosts] of [
      ["x-y", ["kn1", "kn2"]],
      ["y-z", ["kn2", "kn3"]],
      ["lan", ["kn1"]],
    ] as const)
      reads.segment({ kind: "segment", id, hosts: [...hosts], vni: 1, mtu: 1450 });
    const verdict = verdictOf(seen, undefined, tally, 1, undefined);
    expect(verdict).toMatchObject({ pairs_reached: 3, pairs_full_sized: 2 });
    expect(verdict.error?.message).toContain(
      "1 of 3 pings get through only while they are small: look at segment x-y with its MTU of 1450 between kn1 and kn2",
    );
    tally.hear(exit("a1", "kn1", "10.2.0.10/1422\n"));
    expect([tally.reached(), tally.fullSized(), tally.narrow()]).toEqual([3, 3, []]);
  });

  const census = emptyCensus();
  const read = readInto(census);
  read.experiment(header);
  read.host({ kind: "host", id: "kn1", cores: 1, mem_mib: 1 });
  for (const { guest: record } of runs) read.guest(record, { note: (error) => expect.fail(error.message) });
  const end = { kind: "end" as const, id: "mtt", counts: { host: 2, guest: 10, segment: 3 } };

  it("says which kind is missing, with ranges counted by their members", () => {
    expect(countsThatDiffer(census, end)).toEqual([
      { kind: "host", came: 1, wanted: 2 },
      { kind: "segment", came: 0, wanted: 3 },
    ]);
  });

  it("gives a verdict in the order of the reference, and says what of it is not true", () => {
    const tally = tallyOf(sources);
    for (const record of all) tally.hear(record);
    const verdict = verdictOf(census, end, tally, 1.5, undefined);
    expect(Object.keys(verdict).slice(0, 11)).toEqual([
      "kind",
      "id",
      "hosts",
      "routers",
      "converged",
      "guests",
      "ready",
      "pairs_tried",
      "pairs_reached",
      "pairs_full_sized",
      "seconds",
    ]);
    expect(verdict).toMatchObject({ guests: 10, ready: 9, pairs_tried: 18, pairs_reached: 14 });
    expect(verdict.error?.message).toBe(
      "Cannot confirm mtt: 1 of 10 guests are not ready; 4 of 18 pings were not answered; " +
        "1 host records came, the plan has 2; 0 segment records came, the plan has 3; 2 guests gave no answer",
    );
  });
});

describe("whose a process is", () => {
  const facts = (pid: number, words: string[], more: Partial<ProcessFacts> = {}): ProcessFacts => ({
    pid,
    parent: 1,
    group: pid,
    terminal: 0,
    started: "1",
    words,
    run: undefined,
    ...more,
  });
  const DIR = "/tmp/mtt/run";

  it("knows tools, what they started and what names the directory; nobody else's", () => {
    expect(isOurs(facts(2, ["/x/dist/mt-boot", "up"], { run: DIR }), DIR)).toBe(true);
    expect(isOurs(facts(2, ["bun", "tools/mt-boot/main.ts", "up"], { run: DIR }), DIR)).toBe(true);
    expect(isOurs(facts(2, ["sleep", "9"], { run: `${DIR}/hosts/kn1` }), DIR)).toBe(true);
    expect(isOurs(facts(2, ["qemu-system-x86_64", "-qmp", `unix:${DIR}/a,server=on`]), DIR)).toBe(true);
    expect(isOurs(facts(2, ["/x/dist/mt-boot", "up"], { run: "/tmp/other" }), DIR)).toBe(false);
    expect(isOurs(facts(2, ["/x/dist/mt-boot", "up"]), DIR)).toBe(false);
    expect(isOurs(facts(2, ["qemu-system-x86_64", "-qmp", `unix:${DIR}2/a,server=on`]), DIR)).toBe(false);
    expect(isOurs(facts(2, ["less", `${DIR}/log`], { terminal: 34816 }), DIR)).toBe(false);
    expect(isOurs(facts(2, ["sleep", "9"], { run: DIR }), DIR)).toBe(false);
  });

  it("leaves out the pipeline that asks, but not a daemon or an orphan of it", () => {
    const list = [
      facts(10, ["sh"], { group: 10 }),
      facts(11, ["mt-tree", "map"], { parent: 10, group: 10 }),
      facts(12, ["cat"], { parent: 11, group: 10 }),
      facts(13, ["mt-status", "left"], { parent: 10, group: 10 }),
      facts(14, ["mt-boot", "supervise"], { parent: 1, group: 14 }),
      facts(15, ["mt-boot", "up"], { parent: 1, group: 10 }),
    ];
    const asking = bystanders(new Map(list.map((p) => [p.pid, p])), 13);
    expect([...asking].sort()).toEqual([10, 11, 12, 13]);
  });

  it("reads links and mounts, without those of named namespaces", () => {
    expect(links("Inter-|\n face |\n    lo: 1 2\n  eth0: 3 4\nb7abc: 0 0\n")).toEqual([
      "lo",
      "eth0",
      "b7abc",
    ]);
    const line = (path: string) => `22 1 0:21 / ${path} rw - tmpfs tmpfs rw`;
    expect(
      mountPoints(
        [line("/proc"), line("/run/netns"), line("/run/netns/mt-kn1"), line("/run/megatux/g0")].join("\n"),
      ),
    ).toEqual(["/proc", "/run/megatux/g0"]);
  });
});

describe("the compiled tool", () => {
  const dir = mkdtempSync(join(tmpdir(), "mtt-status-"));
  const env = {
    ...process.env,
    MT_RUN: join(dir, "run"),
    MT_STATE: join(dir, "state"),
    MT_LEASES: join(dir, "leases"),
    MT_HOST: "mtt-h",
  };
  const status = (args: string[], input = "") => {
    const done = spawnSync(MT_STATUS, args, { input, encoding: "utf8", timeout: 50_000, env });
    if (done.error) throw done.error;
    if (done.stdout.startsWith("{")) expectRecords(done.stdout);
    return { code: done.status, out: done.stdout, err: done.stderr };
  };
  /** The one record that it gave. */
  const only = (out: string): Rec => {
    const [record, ...more] = expectRecords(out);
    expect(more).toEqual([]);
    return record!;
  };
  const text = (records: object[]) => records.map((r) => `${JSON.stringify(r)}\n`).join("");
  const whole = {
    kind: "verdict",
    id: "mtt",
    hosts: 1,
    routers: 2,
    converged: 2,
    guests: 4,
    ready: 4,
    pairs_tried: 4,
    pairs_reached: 4,
    seconds: 2,
  };

  beforeAll(() => {
    if (!existsSync(MT_STATUS)) throw new Error(`${MT_STATUS} is not there: make build`);
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it("checks a plan with one guest without asking it, passes it on as it came, and keeps the verdict", () => {
    const plan = text([header, { kind: "host", id: "mtt-h", cores: 1, mem_mib: 9 }, guest("g0", 1, 0)]);
    const end = '{"kind":"end", "id":"mtt", "counts":{"host":1,"guest":1}}\n';
    const checked = status(["check"], plan + end);
    expect(checked.err).toBe("");
    expect(checked.code).toBe(0);
    const verdict = checked.out.slice(plan.length, -end.length);
    expect(checked.out).toBe(plan + verdict + end);
    expect(only(verdict)).toMatchObject({
      hosts: 1,
      guests: 1,
      ready: 1,
      pairs_tried: 0,
      pairs_reached: 0,
    });

    const short = status(["check", "--only"], plan + end.replace('"guest":1', '"guest":4'));
    expect(short.code).toBe(1);
    expect(short.err).toContain("1 guest records came, the plan has 4");
    expect(short.out.trim().split("\n")).toHaveLength(1);

    const cut = status(["check", "--only"], plan);
    expect([cut.code, cut.out]).toEqual([65, ""]);
    const kept = status(["history", "--experiment", "mtt", "--last", "1"]).out.trim().split("\n");
    expect(kept).toHaveLength(1);
    expect(only(kept[0]!)).toMatchObject({ ...only(short.out), time: expect.any(String) });
  });

  it("draws a table with totals and errors, without escape sequences from records", () => {
    const failed = {
      ...guest("g[4-5]", 1, 4),
      state: "failed",
      error: { by: "mt-boot", code: "failed", message: "Cannot boot\u001b[2J g4: no", hint: "try" },
    };
    const { out, code } = status(
      [],
      text([
        header,
        guest("g[0-3]", 1, 0),
        failed,
        guest("h[0-999999]", 2, 0, "running", "kn2"),
        { kind: "end", id: "mtt", counts: {} },
      ]),
    );
    expect(code).toBe(0);
    expect(out).toContain("experiment mtt, seed 7");
    expect(out).toMatch(/^kn1 +6 +0 +4 +2 +0$/m);
    expect(out).toMatch(/^total +1000006 +1000000 +4 +2 +0$/m);
    expect(out).toContain("guest g[4-5] on kn1: mt-boot: Cannot boot [2J g4: no\n    hint: try");
  });

  it("counts what is left, names it, and lets go of what is gone", async () => {
    const before = join(dir, "before.json");
    writeFileSync(before, status(["snapshot"]).out);
    // Other tests may run on this machine: what is theirs is counted too, and ignored here.
    const mine = (record: Rec) =>
      ((record.left as string[] | undefined) ?? []).filter((l) => l.includes(dir) || l.includes("sleep 61"));
    const clean = status(["left", "--since", before, "--grace", "0.5"], text([whole]));
    expect(mine(only(clean.out))).toEqual([]);
    expect(clean.code).toBe(only(clean.out).left_behind === 0 ? 0 : 1);
    expect(Object.keys(only(clean.out)).slice(9, 11)).toEqual(["left_behind", "seconds"]);

    mkdirSync(join(dir, "run/x"), { recursive: true });
    writeFileSync(join(dir, "run/x/file"), "");
    // As an agent would start it: a session of its own, MT_RUN of a host.
    const child = spawn("sleep", ["61"], {
      detached: true,
      stdio: "ignore",
      env: { ...env, MT_RUN: join(dir, "run/hosts/h") },
    });
    const dirty = status(["left", "--since", before, "--grace", "0.2"], text([whole]));
    expect(dirty.code).toBe(1);
    const verdict = only(dirty.out);
    expect(verdict.left_behind).toBeGreaterThanOrEqual(2);
    expect(mine(verdict)).toEqual([`process ${child.pid}: sleep 61`, `file ${join(dir, "run/x/file")}`]);
    expect(status(["left", "--since", before, "--grace", "0"]).code).toBe(1);

    process.kill(child.pid!, "SIGKILL");
    await waitFor(() => (child.exitCode !== null || child.signalCode !== null ? true : undefined), 10);
    rmSync(join(dir, "run"), { recursive: true });
    const gone = only(status(["left", "--since", before, "--grace", "0.5"]).out);
    expect(gone).toMatchObject({ kind: "sample", id: "machine" });
    expect(mine(gone)).toEqual([]);
  });

  it("exits 1 for a verdict that is not wholly true, and 65 for a snapshot that is none", () => {
    const before = join(dir, "before2.json");
    writeFileSync(before, status(["snapshot"]).out);
    for (const wrong of [
      { hosts: 0 },
      { converged: 1 },
      { ready: 3 },
      { pairs_reached: 3 },
      { pairs_tried: 0, pairs_reached: 0 },
    ])
      expect(
        status(["left", "--since", before], text([{ ...whole, ...wrong }])).code,
        JSON.stringify(wrong),
      ).toBe(1);
    writeFileSync(before, "{}");
    expect(status(["left", "--since", before, "--grace", "0.5"], text([whole])).code).toBe(65);
  });
});

describe("another tree on the same machine", () => {
  it("its namespaces are not ours to count; a host's routers go with their host", () => {
    const names = [
      "mt-kn1",
      "mt:kn1:abilene:chi",
      "mt-br1",
      "mt:br1:x:r0",
      "mt-net-zzzzzz",
      clusterNamespace(),
    ];
    expect(ourNamespaces(names, new Set(["br1"]))).toEqual([
      "mt-kn1",
      "mt:kn1:abilene:chi",
      clusterNamespace(),
    ]);
  });
});
