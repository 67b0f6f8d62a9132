/** mt-route: the configuration it writes, the table it reads, and real BIRDs in a ring of namespaces. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTime } from "../../shared/host/lock.ts";
import { routerNamespace } from "../../shared/host/names.ts";
import type { Router } from "../../shared/records/index.ts";
import { prefixesDigest } from "../../shared/records/router.ts";
import { isConverged, notConverged, progressOf } from "../../tools/mt-route/converge/goal.ts";
import { parseTable } from "../../tools/mt-route/converge/table.ts";
import { neighbourStates, reasonIn } from "../../tools/mt-route/engines/bird/bird.ts";
import { birdConfig, costOfDelay } from "../../tools/mt-route/engines/bird/config.ts";
import { expectRecords } from "../support/records.ts";

const MT_ROUTE = resolve("dist/mt-route");
const HOST = "mtt-h";
const EXPERIMENT = "mtt-ring";
const NAMES = ["a", "b", "c", "d"];

/** A ring of four routers, each with a LAN. */
function ringPlan(): { segments: object[]; routers: Router[]; prefixes: string[] } {
  const link = (n: number) => `10.255.0.${2 * n}/31`;
  const prefixes = NAMES.flatMap((_, n) => [link(n), `10.${n + 1}.0.0/16`]);
  const reaches = { prefixes: prefixes.length, digest: prefixesDigest(prefixes) };
  const segments = NAMES.flatMap((name, n) => [
    { kind: "segment", id: `l${n}`, vni: n + 1, prefix: link(n), delay_ms: 2.5 },
    { kind: "segment", id: `lan-${name}`, vni: n + 10, prefix: `10.${n + 1}.0.0/16` },
  ]);
  const routers = NAMES.map((name, n): Router => {
    const before = (n + 3) % 4;
    return {
      kind: "router",
      id: name,
      host: HOST,
      index: n,
      engine: "bird",
      protocol: "ospf",
      interfaces: [
        { segment: `l${n}`, ip: `10.255.0.${2 * n}/31`, peer: NAMES[(n + 1) % 4]! },
        { segment: `l${before}`, ip: `10.255.0.${2 * before + 1}/31`, peer: NAMES[before]! },
        { segment: `lan-${name}`, ip: `10.${n + 1}.0.1/16` },
      ],
      reaches,
    };
  });
  return { segments, routers, prefixes };
}

describe("configuration and table", () => {
  it("speaks OSPF on links only, and never on a LAN", () => {
    const [a] = ringPlan().routers;
    const text = birdConfig("x", a!, new Map([["l0", 2.5]]));
    expect(text).toContain("router id 10.255.0.0;");
    expect(text).toMatch(/interface "eth0" \{ cost 25; type ptp; hello 2; dead \d+;/);
    expect(text).toContain('interface "eth2" { cost 10; stub yes; }');
    expect(birdConfig("x", { ...a!, interfaces: [], index: 4 }, new Map())).toContain("router id 0.0.0.5;");
  });

  it("takes a cost from a delay within what OSPF has", () => {
    expect([undefined, 0, 0.04, 5.7, 1e9].map((d) => costOfDelay(d))).toEqual([10, 1, 1, 57, 65_535]);
  });

  it("reads prefixes from /proc/net/route, without default and unreachable routes", () => {
    const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    const row = (dst: string, flags: string, mask: string) =>
      `eth0\t${dst}\t00000000\t${flags}\t0\t0\t32\t${mask}\t0\t0\t0`;
    const table = parseTable(
      [
        head,
        row("00000000", "0003", "00000000"),
        row("0200FF0A", "0001", "FEFFFFFF"),
        row("0000010A", "0003", "0000FFFF"),
        row("0000010A", "0003", "0000FFFF"),
        row("0000020A", "0201", "0000FFFF"),
        row("01020304", "0007", "FFFFFFFF"),
      ].join("\n"),
    );
    expect([...table]).toEqual(["10.255.0.2/31", "10.1.0.0/16", "4.3.2.1/32"]);
  });

  it("is converged with the prefixes of the plan, no fewer and no others", () => {
    const { routers, prefixes } = ringPlan();
    const seen = new Set(prefixes);
    expect(isConverged(routers[0]!, new Set([...prefixes].reverse()), seen)).toBe(true);
    expect(isConverged(routers[0]!, new Set(prefixes.slice(1)), seen)).toBe(false);
    expect(isConverged(routers[0]!, new Set([...prefixes.slice(1), "10.9.0.0/16"]), seen)).toBe(false);
    const byHand = { ...routers[0]!, reaches: undefined };
    expect(isConverged(byHand, new Set([...prefixes, "10.9.0.0/16"]), seen)).toBe(true);
    expect(isConverged(byHand, new Set(prefixes.slice(1)), seen)).toBe(false);
    const origins = new Map([
      ["10.1.0.0/16", ["a"]],
      ["10.255.0.0/31", ["a", "b"]],
    ]);
    const progress = progressOf(routers[0]!, new Set(prefixes.slice(2)), seen, origins);
    const why = { says: ["nothing is heard from b on eth0"], hint: "look there" };
    expect(notConverged(routers[0]!, progress, 120, why)).toMatchObject({
      message:
        "Cannot converge router a: 6 of 8 prefixes after 120 s; missing: 10.1.0.0/16, 10.255.0.0/31 of b; nothing is heard from b on eth0",
      hint: "look there",
    });
    // Where only a part of the plan came, most missing prefixes are not known by name.
    const part = new Set(prefixes.slice(0, 2));
    expect(progressOf(routers[0]!, new Set(prefixes.slice(1, 3)), part, origins)).toEqual({
      count: "2 of 8 prefixes",
      rest: "; missing: 10.255.0.0/31 of b and 5 more",
    });
  });
});

describe("real routers", () => {
  const dir = mkdtempSync(join(tmpdir(), "mtt-route-"));
  const env = { ...process.env, MT_RUN: join(dir, "run"), MT_STATE: join(dir, "state"), MT_HOST: HOST };
  const { segments, routers, prefixes } = ringPlan();
  const lines = [
    { kind: "experiment", id: EXPERIMENT, version: 1, seed: 1 },
    { kind: "host", id: HOST, cores: 1, mem_mib: 100 },
    ...segments,
    ...routers,
    { kind: "end", id: EXPERIMENT, counts: { host: 1, segment: 8, router: 4 } },
  ];
  const plan = lines.map((l) => `${JSON.stringify(l)}\n`).join("");
  const netns = (name: string) => routerNamespace(HOST, EXPERIMENT, name);

  const sh = (file: string, args: string[], input = "") => {
    const done = spawnSync(file, args, { input, encoding: "utf8", timeout: 60_000, env });
    if (done.error) throw done.error;
    return done;
  };
  const route = (args: string[], input = "") => {
    const done = sh(MT_ROUTE, args, input);
    const records: ReturnType<typeof JSON.parse>[] = expectRecords(done.stdout);
    return {
      code: done.status,
      stderr: done.stderr,
      stdout: done.stdout,
      sample: records.find((r) => r.kind === "sample"),
      states: Object.fromEntries(records.filter((r) => r.kind === "router").map((r) => [r.id, r.state])),
      router: (id: string) => records.find((r) => r.kind === "router" && r.id === id),
    };
  };
  const birds = () =>
    NAMES.map((name) => {
      const file = join(dir, `run/experiments/${EXPERIMENT}/r/${name}/bird.pid`);
      return existsSync(file) ? Number(readFileSync(file, "utf8")) : 0;
    });
  // A process that has ended but that init has not reaped yet has no start time.
  const alive = (pid: number) => startTime(pid) !== undefined;

  function makeNamespaces() {
    const batch = NAMES.flatMap((name, n) => [
      `link add eth0 netns ${netns(name)} type veth peer name eth1 netns ${netns(NAMES[(n + 1) % 4]!)}`,
    ]);
    for (const name of NAMES) expect(sh("ip", ["netns", "add", netns(name)]).status).toBe(0);
    expect(sh("ip", ["-batch", "-"], batch.join("\n")).stderr).toBe("");
    for (const [n, name] of NAMES.entries()) {
      const up = routers[n]!.interfaces.flatMap((nic, k) => [
        ...(k === 2 ? ["link add eth2 type veth peer name lan", "link set lan up"] : []),
        `address add ${nic.ip} dev eth${k}`,
        `link set eth${k} up`,
      ]);
      expect(sh("ip", ["-n", netns(name), "-batch", "-"], up.join("\n")).stderr).toBe("");
    }
  }
  function removeNamespaces() {
    for (const name of NAMES) sh("ip", ["netns", "del", netns(name)]);
    rmSync(`/run/netns/${netns("half")}`, { force: true });
  }

  beforeAll(() => {
    if (!existsSync(MT_ROUTE)) throw new Error(`${MT_ROUTE} is not there: make build`);
    if (process.getuid?.() !== 0) throw new Error("these tests need root: namespaces");
    removeNamespaces();
    makeNamespaces();
  });
  afterAll(() => {
    for (const pid of birds()) if (pid > 0 && alive(pid)) process.kill(pid, "SIGKILL");
    removeNamespaces();
    rmSync(dir, { recursive: true, force: true });
  });

  it("starts, converges, is left alone, heals, and goes twice", { timeout: 120_000 }, () => {
    const first = route(["up", "--timeout", "60"], plan);
    expect(first.stderr).toBe("");
    expect(first.states).toEqual({ a: "converged", b: "converged", c: "converged", d: "converged" });
    expect(first.code).toBe(0);
    expect(first.router("a").converged_s).toBeGreaterThan(0);
    expect(first.sample).toMatchObject({ id: "route", routers: 4, converged: 4, experiment: EXPERIMENT });
    // All else came through as it went in, `end` last.
    expect(first.stdout.split("\n")).toContain(JSON.stringify(segments[0]));
    expect(first.stdout.trim().split("\n").pop()).toBe(JSON.stringify(lines.at(-1)));
    // By the kernel: every LAN is a route of a.
    const table = sh("ip", ["-n", netns("a"), "route"]).stdout;
    for (const prefix of prefixes) expect(table).toContain(prefix);

    const pids = birds();
    const second = route(["up"], plan);
    expect(second.code).toBe(0);
    expect(birds()).toEqual(pids);
    expect(second.router("a").converged_s).toBe(first.router("a").converged_s);

    // A changed cost is taken without a new process.
    const dearer = plan.replace(
      '{"segment":"l0","ip":"10.255.0.0/31","peer":"b"}',
      '{"segment":"l0","ip":"10.255.0.0/31","peer":"b","cost":777}',
    );
    expect(dearer).not.toBe(plan);
    expect(route(["up"], dearer).code).toBe(0);
    expect(birds()).toEqual(pids);
    expect(readFileSync(join(dir, `run/experiments/${EXPERIMENT}/r/a/bird.conf`), "utf8")).toContain(
      "cost 777",
    );

    process.kill(pids[1]!, "SIGKILL");
    const checked = route(["check"], plan);
    expect(checked.code).toBe(1);
    expect(checked.router("b")).toMatchObject({
      state: "failed",
      error: { by: "mt-route", hint: "mt-route up" },
    });
    expect(checked.router("b").error.message).toBe("Cannot confirm router b: BIRD does not run");

    const healed = route(["up", "--timeout", "60"], checked.stdout);
    expect(healed.code).toBe(0);
    expect(healed.states).toEqual({ a: "converged", b: "converged", c: "converged", d: "converged" });
    expect(birds().filter((pid, n) => pid !== pids[n])).toHaveLength(1);

    const last = birds();
    const down = route(["down"], plan);
    expect(down.code).toBe(0);
    expect(new Set(Object.values(down.states))).toEqual(new Set(["stopped"]));
    expect(last.filter(alive)).toEqual([]);
    expect(existsSync(join(dir, `run/experiments/${EXPERIMENT}`))).toBe(false);
    expect(route(["down"], plan).code).toBe(0);
    expect(route(["down", "--experiment", EXPERIMENT]).code).toBe(0);
  });

  it("names what is missing: a namespace, a neighbour; and ends BIRDs whose namespace has gone", {
    timeout: 60_000,
  }, () => {
    // What a crash inside `ip netns add` leaves is no namespace either.
    writeFileSync(`/run/netns/${netns("half")}`, "");
    const half = JSON.stringify({ ...routers[3], id: "half", index: 9 });
    const without = plan
      .replaceAll('"id":"d"', '"id":"gone"')
      .replace('{"kind":"end"', `${half}\n{"kind":"end"`);
    const up = route(["up", "--timeout", "1"], without);
    expect(up.code).toBe(1);
    expect(up.router("gone").error.hint).toBe("mt-vnet up");
    expect(up.router("half").error).toMatchObject({
      message: `Cannot start router half: its namespace ${netns("half")} is not there`,
      hint: "mt-vnet up",
    });
    expect(up.router("a")).toMatchObject({ state: "failed", error: { by: "mt-route", code: "timeout" } });
    expect(up.router("a").error.message).toMatch(
      /^Cannot converge router a: 3 of 8 prefixes after 1 s; missing: 10\.2\.0\.0\/16, .* and 2 more/,
    );
    const pids = birds().filter((pid) => pid > 0);
    expect(pids.filter(alive)).toHaveLength(3);
    removeNamespaces();
    const range = route(["down", "--experiment", "mtt-ring[1-3]"]);
    expect([range.code, range.stderr]).toEqual([64, expect.stringContaining("it is no id")]);
    expect(route(["down", "--experiment", EXPERIMENT]).code).toBe(0);
    expect(pids.filter(alive)).toEqual([]);
  });

  it("says of each neighbour what is wrong, and what ended BIRD", { timeout: 120_000 }, () => {
    removeNamespaces();
    makeNamespaces();
    // a—b: MTUs differ. c—d: down at c. d—a: a drops what comes in, but d still hears a.
    expect(sh("ip", ["-n", netns("a"), "link", "set", "eth0", "mtu", "1400"]).status).toBe(0);
    expect(sh("ip", ["-n", netns("c"), "link", "set", "eth0", "down"]).status).toBe(0);
    const drop = "add table ip t; add chain ip t i { type filter hook input priority 0; policy accept; }";
    const deaf = `${drop}; add rule ip t i iifname eth1 drop`;
    expect(sh("ip", ["netns", "exec", netns("a"), "nft", deaf]).stderr).toBe("");
    const up = route(["up", "--timeout", "12"], plan);
    expect(up.code).toBe(1);
    const said = (id: string) => `${up.router(id).error.message} | ${up.router(id).error.hint}`;
    expect(said("a")).toMatch(
      /neighbour b on eth0 is in Ex(Start|change); nothing is heard from d on eth1 \| small/,
    );
    expect(said("b")).toMatch(
      /neighbour a on eth1 is in Ex(Start|change) \| .*MTU of both ends must be the same/,
    );
    expect(said("c")).toMatch(/; eth0 to d is down \| mt-vnet up/);
    expect(said("d")).toMatch(/neighbour a on eth0 is in Init \(it is heard.*; eth1 to c has no carrier \|/);
    for (const id of NAMES) expect(said(id)).toMatch(/ of 8 prefixes after 12 s; missing: /);
    const check = route(["check"], plan);
    // One of them, whichever was asked first.
    expect(check.stderr).toMatch(/Cannot confirm router [a-d]: .*; missing: .*; (neighbour|nothing|eth\d) /);
    expect(route(["down"], plan).code).toBe(0);
    removeNamespaces();
    makeNamespaces();
  });

  it("reads BIRD's words: the state of neighbours, and the reason in a log", () => {
    const told =
      "BIRD 2.0.12 ready.\nospf1:\nRouter ID   \tPri\t     State     \tDTime\tInterface  Router IP\n" +
      "10.9.0.2    \t  1\tExStart/PtP  \t 9.001\teth0       10.9.0.1\n10.9.0.3    \t  1\tFull/PtP  \t 8.5\teth12       10.9.0.5\n";
    expect([...neighbourStates(told)]).toEqual([
      ["eth0", "ExStart"],
      ["eth12", "Full"],
    ]);
    const log = join(dir, "a.log");
    const warn = "2026-11-27 15:59:03.105 <WARN> Missing broadcast address for interface eth0";
    for (const [lines, reason] of [
      [[warn], undefined],
      [["2026-11-27 15:59:03.105 <ERR> ospf1: Bad packet", warn], "ospf1: Bad packet"],
      [["2026-11-27 15:59:03.1 <FATAL> Out of sockets", "x y <ERR> later", warn], "Out of sockets"],
      [["bird: /x/bird.conf:2:10 syntax error", ""], "/x/bird.conf:2:10 syntax error"],
    ] as const) {
      writeFileSync(log, lines.join("\n"));
      expect(reasonIn(log)).toBe(reason);
    }
    expect(reasonIn(join(dir, "none.log"))).toBeUndefined();
  });

  it("does nothing that waits where the stream is cut off", () => {
    const cut = plan.split("\n").slice(0, -2).join("\n");
    const down = route(["down"], `${cut}\n`);
    expect(down.code).toBe(65);
    expect(down.states.a).toBeUndefined();
  });
});
