/**
 * mt-vnet as compiled, on real namespaces: two hosts joined by a veth pair, a link between two routers
 * across them, guests' taps. Needs root, and dist/mt-vnet.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { leaseHolders } from "../../shared/host/lease.ts";
import {
  bridgeName,
  routerNamespace,
  routerPortName,
  tapName,
  tunnelPort,
  vxlanName,
} from "../../shared/host/names.ts";
import { waitFor } from "../../shared/host/process.ts";
import { expectRecords } from "../support/records.ts";

/** A record or a link, as far as these tests look at it. */
interface Fields {
  [field: string]: unknown;
  id: string;
  kind: string;
  state?: string;
  raw?: string;
  error?: object;
  applied?: Record<string, boolean>;
}

const BINARY = join(import.meta.dirname ?? __dirname, "../../dist/mt-vnet");
const EXP = `vt${process.pid}`;
const HOSTS = { a: `vta${process.pid}`, b: `vtb${process.pid}` };
const netns = { a: `mtt-${HOSTS.a}`, b: `mtt-${HOSTS.b}` };
const underlay = { a: "10.253.77.1", b: "10.253.77.2" };
const router = { a: routerNamespace(HOSTS.a, EXP, "ra"), b: routerNamespace(HOSTS.b, EXP, "rb") };
const THRESH = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";
/** What it is without any lease; other tests may hold it at the same time. */
const threshBefore =
  existsSync(THRESH) && leaseHolders("neigh").length === 0 ? readFileSync(THRESH, "utf8") : undefined;

const lanA = {
  kind: "segment",
  id: "lan-a",
  hosts: [HOSTS.a],
  vni: 9,
  members: [{ host: HOSTS.a, underlay: underlay.a, router: "ra" }],
};
const linkAB = {
  kind: "segment",
  id: "a-b",
  hosts: [HOSTS.a, HOSTS.b],
  vni: 3,
  delay_ms: 5,
  rate_mbit: 80,
  members: [
    { host: HOSTS.a, underlay: underlay.a, router: "ra" },
    { host: HOSTS.b, underlay: underlay.b, router: "rb" },
  ],
};
const routers = [
  {
    id: "ra",
    host: HOSTS.a,
    index: 1,
    interfaces: [
      { segment: "a-b", ip: "10.255.0.2/31" },
      { segment: "lan-a", ip: "10.1.0.1/16" },
    ],
  },
  { id: "rb", host: HOSTS.b, index: 2, interfaces: [{ segment: "a-b", ip: "10.255.0.3/31" }] },
].map((r) => ({ kind: "router", engine: "bird", protocol: "ospf", ...r }));
const guest = (id: string, segment = "lan-a") => ({
  kind: "guest",
  id,
  host: HOSTS.a,
  index: 0,
  image: "tux",
  cores: 1,
  mem_mib: 64,
  interfaces: [{ segment, ip: "10.1.0.10/16" }],
});

const lines = (...records: object[]) =>
  [{ kind: "experiment", id: EXP, version: 1, seed: 1 }, ...records, { kind: "end", id: EXP, counts: {} }]
    .map((r) => `${JSON.stringify(r)}\n`)
    .join("");
const plan = lines(linkAB, lanA, ...routers, guest("g[0-3]"));

const inside = (ns: string, words: string[]) =>
  execFileSync("nsenter", [`--net=/run/netns/${ns}`, "--", ...words], { encoding: "utf8" });
const ip = (...words: string[]) => execFileSync("ip", words, { encoding: "utf8" });
const linksOf = (ns: string) => JSON.parse(inside(ns, ["ip", "-j", "-d", "link", "show"])) as Fields[];
const linkOf = (ns: string, name: string) => linksOf(ns).find((l) => l.ifname === name);
/** What a host had before anything was built. */
const bare = ["lo", "mttu0"];
const namesOf = (ns: string) => linksOf(ns).map((l) => l.ifname as string);

function vnet(on: "a" | "b", words: string[], input = "") {
  const argv = [`--net=/run/netns/${netns[on]}`, "--", BINARY, ...words, "--host", HOSTS[on]];
  const done = spawnSync("nsenter", argv, {
    input,
    encoding: "utf8",
    timeout: 60_000,
  });
  const out: Fields[] = expectRecords(done.stdout);
  return { code: done.status, out, stderr: done.stderr, text: done.stdout };
}

function removeAll() {
  for (const name of readdirSync("/run/netns")) {
    if (
      Object.values(HOSTS).some((h) => name.startsWith(`mt:${h}:`)) ||
      Object.values(netns).includes(name)
    ) {
      for (const pid of spawnSync("ip", ["netns", "pids", name], { encoding: "utf8" }).stdout.split("\n"))
        if (pid) process.kill(Number(pid), "SIGKILL");
      spawnSync("ip", ["netns", "del", name]);
    }
  }
}

beforeAll(() => {
  if (!existsSync(BINARY)) throw new Error("dist/mt-vnet is missing: run `make build` first");
  for (const ns of Object.values(netns)) {
    ip("netns", "add", ns);
    ip("-n", ns, "link", "set", "lo", "up");
  }
  ip(
    "link",
    "add",
    "mttu0",
    "mtu",
    "1600",
    "netns",
    netns.a,
    "type",
    "veth",
    "peer",
    "name",
    "mttu0",
    "mtu",
    "1600",
    "netns",
    netns.b,
  );
  for (const on of ["a", "b"] as const) {
    ip("-n", netns[on], "addr", "add", `${underlay[on]}/24`, "dev", "mttu0");
    ip("-n", netns[on], "link", "set", "mttu0", "up");
  }
});

afterAll(async () => {
  for (const on of ["a", "b"] as const)
    if (existsSync(`/run/netns/${netns[on]}`)) vnet(on, ["down", "--experiment", EXP]);
  removeAll();
});

/** A TCP connection from one namespace to a listener in another. */
async function connects(from: string, to: string, address: string): Promise<boolean> {
  const server = spawn("nsenter", [
    `--net=/run/netns/${to}`,
    "--",
    process.execPath,
    "-e",
    'require("net").createServer((s) => s.end("hello")).listen(7777, "0.0.0.0", () => console.log("up"))',
  ]);
  try {
    await new Promise((resolve) => server.stdout.once("data", resolve));
    const client = `const s = require("net").connect(7777, "${address}"); s.on("data", () => process.exit(0)); s.on("error", () => process.exit(1)); setTimeout(() => process.exit(2), 3000)`;
    return (
      spawnSync("nsenter", [`--net=/run/netns/${from}`, "--", process.execPath, "-e", client], {
        timeout: 10_000,
      }).status === 0
    );
  } finally {
    server.kill("SIGKILL");
  }
}

describe("mt-vnet up", () => {
  it("builds segments, tunnels, routers and taps, and passes everything on", async () => {
    const [a, b] = [vnet("a", ["up"], plan), vnet("b", ["up"], plan)];
    expect([a.code, a.stderr.replace(/.*netem.*\n/, ""), b.code]).toEqual([0, "", 0]);
    // Its own records and all others come out as they came in.
    expect(
      a.out
        .filter((r) => r.kind !== "switch")
        .map((r) => JSON.stringify(r))
        .sort(),
    ).toEqual(plan.trim().split("\n").sort());
    expect(a.out.filter((r) => r.kind === "switch")).toMatchObject([
      {
        id: "a-b",
        state: "up",
        host: HOSTS.a,
        bridge: bridgeName(EXP, "a-b"),
        tunnel: vxlanName(EXP, "a-b"),
        ports: 1,
        applied: { rate_mbit: true },
      },
      { id: "lan-a", state: "up", ports: 5 },
    ]);
    const tap = linkOf(netns.a, tapName(EXP, "g3", 0));
    expect(tap).toMatchObject({
      master: bridgeName(EXP, "lan-a"),
      mtu: 1500,
      ifalias: `mt:${EXP}:guest:g3:0`,
      linkinfo: { info_kind: "tun" },
    });
    expect(inside(router.a, ["ip", "-br", "link", "show", "eth1"])).toContain("06:01:00:00:00:01");
    expect(
      inside(router.a, ["cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/disable_ipv6"]),
    ).toBe("1\n1\n");
    expect(await connects(router.a, router.b, "10.255.0.3")).toBe(true);
  });

  it("says truly whether this kernel delays", () => {
    const netem =
      spawnSync("unshare", ["--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"])
        .status === 0;
    const { out, stderr } = vnet("b", ["up"], plan);
    expect(out.find((r) => r.kind === "switch")?.applied?.delay_ms).toBe(netem);
    expect(stderr.includes("no netem")).toBe(!netem);
    expect(inside(netns.b, ["tc", "qdisc", "show", "dev", routerPortName(EXP, "rb", 0)])).toContain(
      netem ? "delay 5ms" : "rate 80Mbit",
    );
  });

  it("leaves alone what is there", () => {
    const before = linksOf(netns.a).map((l) => [l.ifname, l.ifindex]);
    expect(vnet("a", ["up"], plan).code).toBe(0);
    expect(linksOf(netns.a).map((l) => [l.ifname, l.ifindex])).toEqual(before);
  });

  it("heals what was half taken away", async () => {
    ip("-n", netns.a, "link", "del", tapName(EXP, "g2", 0));
    ip("-n", netns.a, "link", "del", vxlanName(EXP, "a-b"));
    ip("-n", netns.a, "link", "set", tapName(EXP, "g1", 0), "nomaster", "down");
    ip("netns", "del", router.a);
    // What a crash in `ip netns add` leaves.
    writeFileSync(`/run/netns/${router.a}`, "");
    expect(vnet("a", ["up"], plan).code).toBe(0);
    expect(linkOf(netns.a, tapName(EXP, "g1", 0))).toMatchObject({ master: bridgeName(EXP, "lan-a") });
    expect(linkOf(netns.a, tapName(EXP, "g2", 0))).toMatchObject({ master: bridgeName(EXP, "lan-a") });
    expect(await connects(router.a, router.b, "10.255.0.3")).toBe(true);
  });

  it("keeps guests away from their host", async () => {
    // From a segment, aimed at the bridge's own MAC, to the host's address: counted where the host takes it.
    const bridge = bridgeName(EXP, "lan-a");
    const mac = linkOf(netns.a, bridge)!.address as string;
    inside(router.a, ["ip", "addr", "add", "10.253.77.99/32", "dev", "eth1"]);
    inside(router.a, ["ip", "route", "add", `${underlay.a}/32`, "dev", "eth1", "src", "10.253.77.99"]);
    inside(router.a, ["ip", "neigh", "replace", underlay.a, "lladdr", mac, "dev", "eth1"]);
    const heard = async () => {
      const listen =
        'const s = require("dgram").createSocket("udp4"); s.on("message", () => console.log("heard")); s.bind(7778, () => console.log("up"))';
      const server = spawn("nsenter", [`--net=/run/netns/${netns.a}`, "--", process.execPath, "-e", listen]);
      let said = "";
      server.stdout.on("data", (d) => {
        said += d;
      });
      try {
        await waitFor(() => (said.includes("up") ? true : undefined), 10);
        const send = `const s = require("dgram").createSocket("udp4"); let n = 0; const t = setInterval(() => ++n > 10 ? process.exit(0) : s.send("x", 7778, "${underlay.a}"), 20)`;
        spawnSync("nsenter", [`--net=/run/netns/${router.a}`, "--", process.execPath, "-e", send], {
          timeout: 10_000,
        });
        return (await waitFor(() => (said.includes("heard") ? true : undefined), 0.5)) === true;
      } finally {
        server.kill("SIGKILL");
      }
    };
    expect(await heard()).toBe(false);
    // Each of mt-vnet's two settings keeps them away; without both they get there.
    const unsealed = () => inside(netns.a, ["tc", "filter", "del", "dev", bridge, "ingress"]);
    unsealed();
    expect(await heard()).toBe(false);
    inside(netns.a, ["sh", "-c", `echo 0 >/proc/sys/net/ipv4/conf/${bridge}/rp_filter`]);
    expect(await heard()).toBe(true);
    expect(vnet("a", ["up"], plan).code).toBe(0);
    inside(netns.a, ["sh", "-c", `echo 0 >/proc/sys/net/ipv4/conf/${bridge}/rp_filter`]);
    expect(await heard()).toBe(false);
    expect(vnet("a", ["up"], plan).code).toBe(0);
    expect(await heard()).toBe(false);
  });

  it("fails the members of a range that a full bridge has no room for, and no others", () => {
    const { code, out } = vnet("a", ["up"], lines({ ...lanA, id: "big" }, guest("m[0-1029]", "big")));
    expect(code).toBe(1);
    const guests = out.filter((r) => r.kind === "guest");
    expect(guests.map((g) => [g.id, g.state])).toEqual([
      ["m[0-1022]", undefined],
      ["m[1023-1029]", "failed"],
    ]);
    expect(guests[1]!.error).toMatchObject({
      by: "mt-vnet",
      message: "Cannot connect eth0 to segment big: its bridge has 1023 ports, as many as Linux allows",
    });
    expect(vnet("a", ["down"], lines({ ...lanA, id: "big" }, guest("m[0-1029]", "big"))).code).toBe(0);
  });

  it("takes back what a changed plan no longer wants", () => {
    const c = { host: `${HOSTS.b}c`, underlay: "10.253.77.3", router: "rc" };
    const wide = {
      ...linkAB,
      id: "back",
      vni: 40,
      delay_ms: 0,
      rate_mbit: 5,
      members: [...linkAB.members, c],
    };
    const lanC = { ...lanA, id: "lan-c", vni: 41 };
    const moved = { ...routers[0]!, id: "rm", interfaces: [{ segment: "back", ip: "10.3.0.1/24" }] };
    const more = { ...moved, interfaces: [...moved.interfaces, { segment: "lan-c", ip: "10.4.0.1/24" }] };
    const own = (...records: object[]) => lines(wide, lanC, ...records);
    expect(vnet("a", ["up"], own(more, guest("k0", "back"))).code).toBe(0);
    const tap = tapName(EXP, "k0", 0);
    const qdisc = () => inside(netns.a, ["tc", "qdisc", "show", "dev", tap]);
    const floods = () =>
      inside(netns.a, ["bridge", "fdb", "show", "dev", vxlanName(EXP, "back")]).match(
        /^00:00:00:00:00:00.*dst \S+/gm,
      );
    expect(qdisc()).toContain("tbf");
    expect(floods()).toHaveLength(2);

    const narrow = { ...wide, rate_mbit: undefined, members: linkAB.members };
    const other = { ...moved, interfaces: [{ segment: "back", ip: "10.3.0.2/24" }] };
    expect(vnet("a", ["up"], lines(narrow, lanC, other, guest("k0", "back"))).code).toBe(0);
    expect(qdisc()).not.toContain("tbf");
    expect(floods()).toEqual([expect.stringContaining(underlay.b)]);
    const inRouter = inside(routerNamespace(HOSTS.a, EXP, "rm"), ["ip", "-br", "-4", "address"]);
    expect(inRouter).toContain("10.3.0.2/24");
    expect(inRouter).not.toMatch(/10\.3\.0\.1|10\.4\.0\.1/);

    // To another segment; and a segment with all members here has no tunnel.
    const alone = { ...narrow, members: linkAB.members.slice(0, 1) };
    expect(vnet("a", ["up"], lines(alone, lanC, guest("k0", "lan-c"))).code).toBe(0);
    expect(linkOf(netns.a, tap)).toMatchObject({ master: bridgeName(EXP, "lan-c") });
    expect(namesOf(netns.a)).not.toContain(vxlanName(EXP, "back"));
    expect(vnet("a", ["down"], own(more, guest("k0", "back"))).code).toBe(0);
  });

  it("takes away ports of guests that the segment has on other hosts, and no MAC or port of a guest that only did not come", async () => {
    const on = (host: "a" | "b", index: number, count: number) => ({
      host: HOSTS[host],
      underlay: underlay[host],
      index,
      count,
    });
    const lan = { ...linkAB, id: "go", vni: 70, members: [...linkAB.members, on("a", 0, 4)] };
    const taps = [0, 1, 2, 3].map((k) => tapName(EXP, `go${k}`, 0));
    const macs = () =>
      inside(netns.a, ["bridge", "fdb", "show", "br", bridgeName(EXP, "go")]).match(
        /^02:00:00:00:00:0\d(?=.* static)/gm,
      );
    expect(vnet("a", ["up"], lines(lan, guest("go[0-3]", "go"))).code).toBe(0);
    const all = [0, 1, 2, 3].map((k) => `02:00:00:00:00:0${k}`);
    expect(macs()?.sort()).toEqual(all);
    // Only a part of the plan came.
    expect(vnet("a", ["up"], lines(lan, guest("go0", "go"))).code).toBe(0);
    expect(macs()?.sort()).toEqual(all);
    // As QEMU has the tap of a guest that runs.
    const open = `import fcntl, struct, sys; f = open("/dev/net/tun", "r+b", 0); fcntl.ioctl(f, 0x400454CA, struct.pack("16sH22x", b"${taps[1]}", 0x1002)); print("up", flush=True); sys.stdin.read()`;
    const holder = spawn("nsenter", [`--net=/run/netns/${netns.a}`, "--", "python3", "-c", open]);
    try {
      await new Promise((resolve) => holder.stdout.once("data", resolve));
      const moved = { ...lan, members: [...linkAB.members, on("a", 0, 1), on("b", 1, 3)] };
      expect(vnet("a", ["up"], lines(moved)).code).toBe(0);
      const names = namesOf(netns.a);
      expect(taps.filter((name) => names.includes(name))).toEqual(taps.slice(0, 2));
      expect(macs()).toEqual(all.slice(0, 1));
      expect(vnet("a", ["down"], lines(moved)).code).toBe(0);
      expect(namesOf(netns.a)).not.toContain(taps[1]);
    } finally {
      holder.kill("SIGKILL");
    }
  });

  it("takes no link of another kind for its own, and makes its own half-made ones anew", () => {
    const own = lines({ ...lanA, id: "kind", vni: 50 }, guest("q0", "kind"));
    const bridge = bridgeName(EXP, "kind");
    const tap = tapName(EXP, "q0", 0);
    ip("-n", netns.a, "link", "add", bridge, "type", "veth", "peer", "name", "zz");
    const { code, out } = vnet("a", ["up"], own);
    expect(code).toBe(1);
    const error = {
      message: `Cannot build segment kind: link ${bridge} is in the way: mt-vnet makes a bridge of this name, and it is a veth`,
      hint: `ip link del ${bridge}`,
    };
    expect(out.find((r) => r.kind === "switch")).toMatchObject({ state: "failed", error });
    expect(out.find((r) => r.id === "q0")).toMatchObject({ state: "failed", error: { hint: error.hint } });
    expect(linkOf(netns.a, bridge)).toMatchObject({ linkinfo: { info_kind: "veth" } });

    ip("-n", netns.a, "link", "set", bridge, "alias", `mt:${EXP}:segment:kind`);
    ip("-n", netns.a, "link", "add", tap, "type", "bridge");
    const second = vnet("a", ["up"], own);
    expect(second.out.find((r) => r.kind === "switch")).toMatchObject({ state: "up" });
    expect(second.out.find((r) => r.id === "q0")?.error).toMatchObject({ hint: `ip link del ${tap}` });
    ip("-n", netns.a, "link", "set", tap, "alias", `mt:${EXP}:guest:q0:0`);
    expect(vnet("a", ["up"], own).code).toBe(0);
    expect(linkOf(netns.a, tap)).toMatchObject({ master: bridge, linkinfo: { info_kind: "tun" } });
    expect(vnet("a", ["down"], own).code).toBe(0);
  });

  it("leaves links of others that have our names, and says so; takes away its own half-made ones", () => {
    const own = lines({ ...lanA, id: "else" }, guest("w[0-2]", "else"));
    const bridge = bridgeName(EXP, "else");
    const taps = [0, 1, 2].map((k) => tapName(EXP, `w${k}`, 0));
    ip("-n", netns.a, "link", "add", bridge, "type", "veth", "peer", "name", "zz");
    ip("-n", netns.a, "tuntap", "add", "dev", taps[0]!, "mode", "tap");
    ip("-n", netns.a, "tuntap", "add", "dev", taps[1]!, "mode", "tap");
    ip("-n", netns.a, "link", "set", taps[1]!, "alias", "mine");
    ip("-n", netns.a, "link", "add", taps[2]!, "type", "bridge");
    ip("-n", netns.a, "link", "set", taps[2]!, "alias", `mt:${EXP}:guest:w2:0`);
    const { code, out } = vnet("a", ["down"], own);
    expect(code).toBe(1);
    expect(out.find((r) => r.kind === "switch")).toMatchObject({
      state: "failed",
      error: {
        by: "mt-vnet",
        message: `Cannot remove link ${bridge}: it is a veth, which mt-vnet did not make`,
      },
    });
    expect(out.filter((r) => r.kind === "guest").map((g) => [g.id, g.state])).toEqual([
      ["w0", undefined],
      ["w1", "failed"],
      ["w2", undefined],
    ]);
    expect(out.find((r) => r.id === "w1")!.error).toMatchObject({
      message: `Cannot remove link ${taps[1]}: it is a tap with the alias mine, which mt-vnet did not make`,
      hint: `ip link del ${taps[1]}, where nobody needs it`,
    });
    const names = namesOf(netns.a);
    expect([bridge, ...taps].filter((n) => names.includes(n))).toEqual([bridge, taps[1]]);
    for (const link of [bridge, taps[1]!]) ip("-n", netns.a, "link", "del", link);
    expect(vnet("a", ["down"], own).code).toBe(0);
  });

  it("says with whom a tunnel collides, and what to do", () => {
    // As if by an experiment whose id has the same tunnel port.
    const port = String(tunnelPort(EXP));
    const theirs = ["type", "vxlan", "id", "60", "local", underlay.a, "dstport", port];
    ip("-n", netns.a, "link", "add", "mttx0", ...theirs);
    ip("-n", netns.a, "link", "set", "mttx0", "alias", "mt:other:tunnel:s");
    try {
      const own = lines({ ...linkAB, id: "clash", vni: 60, delay_ms: 0 });
      const { code, out } = vnet("a", ["up"], own);
      expect(code).toBe(1);
      expect(out.find((r) => r.kind === "switch")?.error).toMatchObject({
        message: `Cannot build segment clash: its VXLAN tunnel, VNI 60 on UDP port ${port}, collides with that of experiment other on this host`,
        hint: "give this experiment another id (mt-topo import --id), or take the other down first",
      });
      expect(vnet("a", ["down"], own).code).toBe(0);
    } finally {
      ip("-n", netns.a, "link", "del", "mttx0");
    }
  });

  it("refuses a rate that no kernel can hold, in one line", () => {
    const { code, out } = vnet(
      "a",
      ["up"],
      lines({ ...lanA, id: "slow", vni: 70, rate_mbit: 1e-9 }, guest("s0", "slow")),
    );
    expect(code).toBe(1);
    expect(out.find((r) => r.kind === "switch")).toMatchObject({
      state: "failed",
      applied: { rate_mbit: false },
      error: { message: "Cannot limit segment slow to 1e-9 Mbit/s: rates go from 0.001 to 1000000" },
    });
    expect(out.find((r) => r.id === "s0")?.state).toBe("failed");
    // Both ends of what is allowed are taken.
    for (const rate_mbit of [0.001, 1_000_000]) {
      const own = lines({ ...lanA, id: "slow", vni: 70, rate_mbit }, guest("s0", "slow"));
      expect(vnet("a", ["up"], own).code).toBe(0);
      expect(vnet("a", ["down"], own).code).toBe(0);
    }
  });

  it("acts on no record with a bad id, and fails ports of unknown segments", () => {
    const { code, out } = vnet("a", ["up"], lines(guest("../x"), guest("h0", "nowhere")));
    expect(code).toBe(65);
    expect(out.find((r) => r.kind === "error")?.raw).toContain("../x");
    expect(out.find((r) => r.id === "h0")).toMatchObject({ state: "failed", error: { by: "mt-vnet" } });
    expect(namesOf(netns.a)).not.toContain(tapName(EXP, "h0", 0));
  });
});

describe("mt-vnet ls", () => {
  it("shows what is there, from the kernel alone", () => {
    const { out } = vnet("a", ["ls", "--experiment", EXP]);
    expect(out).toMatchObject([
      { kind: "switch", id: "a-b", experiment: EXP, ports: 1 },
      { kind: "switch", id: "lan-a", ports: 5 },
    ]);
    const human = spawnSync("nsenter", [`--net=/run/netns/${netns.a}`, "--", BINARY, "ls", "--human"], {
      encoding: "utf8",
    }).stdout;
    expect(human).toMatch(/^EXPERIMENT +SEGMENT/);
  });
});

describe("mt-vnet down", () => {
  it("ends what runs in routers and removes all of it, twice", async () => {
    const daemon = spawn("nsenter", [
      `--net=/run/netns/${router.a}`,
      "--",
      process.execPath,
      "-e",
      "console.log(1); setInterval(() => {}, 1000)",
    ]);
    await new Promise((resolve) => daemon.stdout.once("data", resolve));
    const ended = new Promise((resolve) => daemon.once("exit", resolve));
    const first = vnet("a", ["down"], plan);
    expect([first.code, first.stderr]).toEqual([0, ""]);
    await ended;
    expect(namesOf(netns.a).sort()).toEqual(bare);
    expect(existsSync(`/run/netns/${router.a}`)).toBe(false);
    expect(first.out.filter((r) => r.kind === "switch").map((r) => r.state)).toEqual(["down", "down"]);
    expect(vnet("a", ["down"], plan).code).toBe(0);
  });

  it("needs no plan, leaves other experiments alone, and puts the ARP table's size back", () => {
    const other = plan.replaceAll(EXP, `${EXP}x`);
    expect(vnet("b", ["up"], other).code).toBe(0);
    expect(vnet("b", ["down", "--experiment", EXP]).code).toBe(0);
    expect(namesOf(netns.b)).toContain(bridgeName(`${EXP}x`, "a-b"));
    expect(namesOf(netns.b)).not.toContain(bridgeName(EXP, "a-b"));
    if (existsSync(THRESH)) expect(Number(readFileSync(THRESH, "utf8"))).toBeGreaterThanOrEqual(262_144);
    expect(vnet("b", ["down", "--experiment", `${EXP}x`]).code).toBe(0);
    expect(namesOf(netns.b).sort()).toEqual(bare);
    expect(leaseHolders("neigh").filter((h) => h.includes(EXP))).toEqual([]);
    if (threshBefore && leaseHolders("neigh").length === 0)
      expect(readFileSync(THRESH, "utf8")).toBe(threshBefore);
    expect(vnet("b", ["down", "--experiment", "../x"]).code).toBe(64);
  });
});
