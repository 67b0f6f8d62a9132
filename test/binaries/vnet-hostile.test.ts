/**
 * A guest that sends whatever it likes, from its tap as QEMU has it open, on two hosts that mt-vnet has built: its frames
 * reach the guests that the plan says, and nothing of its host, and no table grows with them. Needs root, and dist/mt-vnet.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guestMac } from "../../shared/addresses.ts";
import { bridgeName, tapName, tunnelPort, vxlanName } from "../../shared/host/names.ts";

const BINARY = join(import.meta.dirname, "../../dist/mt-vnet");
const FRAMES = join(import.meta.dirname, "../fixtures/frames.py");
const EXP = `vh${process.pid}`;
const OTHER = `vo${process.pid}`;
const HOSTS = { a: `vha${process.pid}`, b: `vhb${process.pid}` };
const netns = { a: `mtt-${HOSTS.a}`, b: `mtt-${HOSTS.b}` };
const underlay = { a: "10.253.79.1", b: "10.253.79.2" };
/** As many MACs as a tunnel of a small segment learns at most. */
const TUNNEL_MACS_MAX = 4096;

const member = (on: "a" | "b", index: number, count: number) => ({
  host: HOSTS[on],
  underlay: underlay[on],
  index,
  count,
});
const plan = (experiment: string) => {
  const guest = (on: "a" | "b", id: string, index: number, segment: string) => ({
    kind: "guest",
    id,
    host: HOSTS[on],
    index,
    image: "tux",
    cores: 1,
    mem_mib: 64,
    interfaces: [{ segment, ip: `10.1.0.${index + 10}/16` }],
  });
  return [
    { kind: "experiment", id: experiment, version: 1, seed: 1 },
    { kind: "segment", id: "lan", hosts: [HOSTS.a], vni: 9, members: [member("a", 0, 3)] },
    {
      kind: "segment",
      id: "wide",
      hosts: [HOSTS.a, HOSTS.b],
      vni: 3,
      members: [member("a", 4, 2), member("b", 6, 1)],
    },
    guest("a", "g[0-2]", 0, "lan"),
    guest("a", "w[0-1]", 4, "wide"),
    guest("b", "far", 6, "wide"),
    { kind: "end", id: experiment, counts: {} },
  ]
    .map((r) => `${JSON.stringify(r)}\n`)
    .join("");
};

const ip = (...words: string[]) => execFileSync("ip", words, { encoding: "utf8" });
const inside = (on: "a" | "b", words: string[], input = "") =>
  execFileSync("nsenter", [`--net=/run/netns/${netns[on]}`, "--", ...words], {
    encoding: "utf8",
    input,
    timeout: 60_000,
    maxBuffer: 64 * 1024 * 1024,
  });
const vnet = (on: "a" | "b", words: string[], input = "") => {
  const argv = [`--net=/run/netns/${netns[on]}`, "--", BINARY, ...words, "--host", HOSTS[on]];
  return spawnSync("nsenter", argv, { input, encoding: "utf8", timeout: 60_000 }).status;
};
const tap = (guest: string, experiment = EXP) => tapName(experiment, guest, 0);
const send = (on: "a" | "b", taps: string[], frames: Buffer[]) =>
  JSON.parse(inside(on, ["python3", FRAMES, ...taps], frames.map((f) => f.toString("hex")).join("\n"))) as {
    sent: number;
    got: Record<string, string[]>;
  };
const linkOf = (on: "a" | "b", name: string) =>
  (JSON.parse(inside(on, ["ip", "-j", "link", "show", "dev", name])) as { address: string }[])[0]!.address;
/** How many MACs a host's bridges know; how many the tunnel of `wide` does. */
const entries = (on: "a" | "b", what: RegExp) =>
  inside(on, ["bridge", "fdb", "show"])
    .split("\n")
    .filter((line) => what.test(line)).length;
const macs = (on: "a" | "b") => entries(on, / master /);
const tunnelMacs = (on: "a" | "b") => entries(on, new RegExp(` dev ${vxlanName(EXP, "wide")} dst `));

beforeAll(() => {
  if (!existsSync(BINARY)) throw new Error("dist/mt-vnet is missing: run `make build` first");
  for (const ns of Object.values(netns)) {
    ip("netns", "add", ns);
    ip("-n", ns, "link", "set", "lo", "up");
  }
  const [left, right] = (["a", "b"] as const).map((on) => `name mttv0 mtu 1600 netns ${netns[on]}`);
  ip(...`link add ${left} type veth peer ${right}`.split(" "));
  for (const on of ["a", "b"] as const) {
    ip("-n", netns[on], "addr", "add", `${underlay[on]}/24`, "dev", "mttv0");
    // No address of its own for IPv6: the kernel would talk to routers now and then.
    ip("-n", netns[on], "link", "set", "mttv0", "addrgenmode", "none", "up");
  }
  for (const experiment of [EXP, OTHER])
    for (const on of ["a", "b"] as const) expect(vnet(on, ["up"], plan(experiment))).toBe(0);
  // The two hosts know each other's MACs, so that only what guests send goes from one to the other.
  for (const [on, other] of [
    ["a", "b"],
    ["b", "a"],
  ] as const)
    inside(on, ["ip", "neigh", "replace", underlay[other], "lladdr", linkOf(other, "mttv0"), "dev", "mttv0"]);
}, 120_000);

afterAll(() => {
  for (const on of ["a", "b"] as const)
    if (existsSync(`/run/netns/${netns[on]}`))
      for (const experiment of [EXP, OTHER]) vnet(on, ["down", "--experiment", experiment]);
  for (const name of readdirSync("/run/netns"))
    if (Object.values(netns).includes(name)) spawnSync("ip", ["netns", "del", name]);
});

const bytes = (mac: string) => Buffer.from(mac.replaceAll(":", ""), "hex");
const ethernet = (to: string, from: string, type: number, payload: Buffer) =>
  Buffer.concat([
    bytes(to),
    bytes(from),
    word(type),
    payload,
    Buffer.alloc(Math.max(0, 46 - payload.length)),
  ]);
const word = (n: number) => Buffer.from([n >> 8, n & 0xff]);
const address = (text: string) => Buffer.from(text.split(".").map(Number));
const BROADCAST = "ff:ff:ff:ff:ff:ff";

/** The Internet checksum. */
function sum(buffer: Buffer): Buffer {
  let total = 0;
  for (let i = 0; i < buffer.length; i += 2) total += (buffer[i]! << 8) | (buffer[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >> 16);
  return word(~total & 0xffff);
}
function ipv4(from: string, to: string, protocol: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt8(0x45, 0);
  head.writeUInt16BE(20 + payload.length, 2);
  head.writeUInt8(64, 8);
  head.writeUInt8(protocol, 9);
  address(from).copy(head, 12);
  address(to).copy(head, 16);
  sum(head).copy(head, 10);
  return Buffer.concat([head, payload]);
}
/** Without a checksum, which UDP over IPv4 allows. */
const udp = (port: number, payload: Buffer) =>
  Buffer.concat([word(40_000), word(port), word(8 + payload.length), word(0), payload]);
const echo = () => {
  const message = Buffer.from(`0800000000010001${"00".repeat(32)}`, "hex");
  sum(message).copy(message, 2);
  return message;
};
const syn = Buffer.from("9c4000160000000100000000500220000000" + "0000", "hex");
const arp = (operation: number, mac: string, from: string, to: string) =>
  Buffer.concat([
    Buffer.from("0001080006040", "hex"),
    Buffer.from([4, 0, operation]),
    bytes(mac),
    address(from),
    Buffer.alloc(6),
    address(to),
  ]);
const ipv6 = (from: string, to: string, message: string) => {
  const payload = Buffer.from(message, "hex");
  const [source, destination] = [Buffer.from(from, "hex"), Buffer.from(to, "hex")];
  const pseudo = Buffer.concat([source, destination, Buffer.from([0, 0, 0, payload.length, 0, 0, 0, 58])]);
  sum(Buffer.concat([pseudo, payload])).copy(payload, 2);
  const head = Buffer.from([0x60, 0, 0, 0, 0, payload.length, 58, 255]);
  return Buffer.concat([head, source, destination, payload]);
};
const LINK_LOCAL = "fe80000000000000000000fffe000000";
const ALL_NODES = "ff020000000000000000000000000001";
/** A router that has a prefix for everybody, for ever. */
const ADVERTISEMENT = `86000000400000000000000000000000030440c0ffffffffffffffff0000000020010db8${"00".repeat(12)}`;

describe("a guest that sends what it likes", () => {
  it("its frames reach whom they are for, also from a MAC that the plan does not have, and nobody else", () => {
    const g1 = guestMac(1, 0);
    const known = ethernet(g1, guestMac(0, 0), 0x88b5, Buffer.from("for g1"));
    const unknown = ethernet(g1, "02:aa:00:00:00:01", 0x88b5, Buffer.from("for g1 from nobody"));
    const { got } = send(
      "a",
      ["g0", "g1", "g2"].map((g) => tap(g)),
      [known, unknown],
    );
    expect(got[tap("g1")]).toEqual([known.toString("hex"), unknown.toString("hex")]);
    expect(got[tap("g2")]).toEqual([]);
    // On one host a MAC that nobody has goes to all, as in any switch.
    const nowhere = ethernet("02:aa:00:00:00:01", guestMac(0, 0), 0x88b5, Buffer.from("for nobody"));
    expect(
      send(
        "a",
        ["g0", "g1", "g2"].map((g) => tap(g)),
        [nowhere],
      ).got[tap("g2")],
    ).toHaveLength(1);
  });

  it("over a tunnel only what is for guests there goes there; nothing of it comes to others here", () => {
    const far = ethernet(guestMac(6, 0), guestMac(4, 0), 0x88b5, Buffer.from("for far"));
    const near = ethernet(guestMac(5, 0), guestMac(4, 0), 0x88b5, Buffer.from("for w1"));
    const sentBefore = readTx("a");
    const { got } = send("a", [tap("w0"), tap("w1")], [far, near]);
    expect(got[tap("w1")]).toEqual([near.toString("hex")]);
    expect(readTx("a") - sentBefore).toBe(1);
  });

  it("two hundred thousand MACs add nothing to the tables of bridges, here and on the other host", () => {
    const before = { a: macs("a"), b: macs("b") };
    for (const [on, from, n] of [
      ["a", tap("g0"), 200_000],
      ["a", tap("w0"), 20_000],
    ] as const)
      expect(JSON.parse(inside(on, ["python3", FRAMES, "--flood", String(n), from]))).toEqual({ sent: n });
    expect({ a: macs("a"), b: macs("b") }).toEqual(before);
    // The other host's tunnel learns where a MAC is: so many, and no more.
    expect(tunnelMacs("b")).toBeGreaterThan(TUNNEL_MACS_MAX / 2);
    expect(tunnelMacs("b")).toBeLessThanOrEqual(TUNNEL_MACS_MAX);
    // MACs that came later are reached too.
    const back = ethernet(guestMac(4, 0), guestMac(6, 0), 0x88b5, Buffer.from("back"));
    const received = readTx("b");
    expect(send("b", [tap("far")], [back]).sent).toBe(1);
    expect(readTx("b") - received).toBe(1);
    // `up` mends what was lost, and does nothing where nothing was.
    inside("a", ["bridge", "fdb", "del", guestMac(1, 0), "dev", tap("g1"), "master"]);
    inside("a", ["bridge", "link", "set", "dev", tap("g2"), "learning", "on"]);
    expect(vnet("a", ["up"], plan(EXP))).toBe(0);
    expect(macs("a")).toBe(before.a);
    expect(inside("a", ["bridge", "fdb", "show", "br", bridgeName(EXP, "lan")])).toContain(guestMac(1, 0));
  });

  it("reaches nothing of its host, whatever its frames say, and changes nothing there", () => {
    const mine = guestMac(0, 0);
    const [bridge, card] = [linkOf("a", bridgeName(EXP, "lan")), linkOf("a", "mttv0")];
    const [itsTap, otherBridge] = [linkOf("a", tap("g0")), linkOf("a", bridgeName(OTHER, "lan"))];
    const vxlan = (experiment: string, vni: number) => {
      const inner = ethernet(BROADCAST, mine, 0x88b5, Buffer.from("from another experiment"));
      const head = Buffer.from([8, 0, 0, 0, 0, 0, vni, 0]);
      return udp(tunnelPort(experiment), Buffer.concat([head, inner]));
    };
    // By default a port keeps frames for the addresses of link-local protocols to itself, also IP.
    const groups = ["00", "01", "02", "03", "0e"].map((last) => `01:80:c2:00:00:${last}`);
    const everybody = [BROADCAST, "33:33:00:00:00:01", "01:00:5e:00:00:01", ...groups];
    const to = [bridge, card, itsTap, otherBridge, ...everybody];
    const frames: Buffer[] = [];
    for (const mac of to)
      for (const source of [mine, bridge, card, "00:00:00:00:00:00"]) {
        const frame = (type: number, payload: Buffer) => frames.push(ethernet(mac, source, type, payload));
        for (const host of [underlay.a, underlay.b, "127.0.0.1", "255.255.255.255", "224.0.0.1"])
          for (const from of ["10.1.0.10", underlay.a, underlay.b, "127.0.0.1", "0.0.0.0"]) {
            frame(0x0800, ipv4(from, host, 1, echo()));
            frame(0x0800, ipv4(from, host, 17, udp(7779, Buffer.from("x"))));
            frame(0x0800, ipv4(from, host, 6, syn));
            for (const experiment of [EXP, OTHER])
              for (const vni of [3, 9]) frame(0x0800, ipv4(from, host, 17, vxlan(experiment, vni)));
          }
        for (const [from, asked] of [
          ["10.1.0.10", underlay.a],
          [underlay.b, underlay.a],
          [underlay.a, underlay.a],
          ["0.0.0.0", underlay.a],
        ] as const)
          for (const operation of [1, 2]) frame(0x0806, arp(operation, source, from, asked));
        for (const message of [ADVERTISEMENT, `8700000000000000${LINK_LOCAL}`, `80000000${"00010001"}`])
          for (const target of [ALL_NODES, LINK_LOCAL, `${"00".repeat(15)}01`])
            frame(0x86dd, ipv6(LINK_LOCAL, target, message));
      }
    // Spanning tree, LLDP, pause; tagged once and twice; too long, too short.
    for (const last of ["00", "01", "02", "03", "0e", "21"])
      frames.push(
        ethernet(`01:80:c2:00:00:${last}`, mine, 0x0027, Buffer.from("42420300000000008000", "hex")),
      );
    const ping = ethernet(bridge, mine, 0x0800, ipv4("10.1.0.10", underlay.a, 1, echo()));
    for (const tag of ["81000001", "81000064", "88a80001", "8100006481000064"])
      for (const frame of [ping, ethernet(BROADCAST, mine, 0x0806, arp(1, mine, "10.1.0.10", underlay.a))])
        frames.push(Buffer.concat([frame.subarray(0, 12), Buffer.from(tag, "hex"), frame.subarray(12)]));
    frames.push(
      ethernet(bridge, mine, 0x0800, ipv4("10.1.0.10", underlay.a, 17, udp(7779, Buffer.alloc(8900)))),
    );
    frames.push(ping.subarray(0, 14), ping.subarray(0, 20));

    const before = { delivered: delivered(), tables: tables(), sent: readTx("a") };
    const heard = send("a", [tap("g0"), tap("g0", OTHER), tap("w0"), tap("w0", OTHER)], frames);
    expect(heard.sent).toBeGreaterThan(frames.length - 4);
    // Nobody answered, and no other network of this host heard anything.
    expect(heard.got).toEqual({
      [tap("g0")]: [],
      [tap("g0", OTHER)]: [],
      [tap("w0")]: [],
      [tap("w0", OTHER)]: [],
    });
    expect(delivered()).toEqual(before.delivered);
    expect(tables()).toEqual(before.tables);
    expect(readTx("a")).toBe(before.sent);
    // A check of the check: these counters do change where the host hears something.
    inside("b", ["ping", "-c", "1", "-W", "5", underlay.a]);
    expect(delivered()).not.toEqual(before.delivered);
  });
});

/** Frames that a host has sent to the other. */
const readTx = (on: "a" | "b") =>
  (
    JSON.parse(inside(on, ["ip", "-s", "-j", "link", "show", "dev", "mttv0"])) as {
      stats64: { tx: { packets: number } };
    }[]
  )[0]!.stats64.tx.packets;

/** What the host's protocols received: those counters that are about sockets and the host itself. */
function delivered(): Record<string, string | undefined> {
  const text = `${procNet("snmp")}\n`;
  const counted: Record<string, string | undefined> = {};
  for (const [protocol, name] of [
    ["Ip", "InDelivers"],
    ["Ip", "ForwDatagrams"],
    ["Icmp", "InMsgs"],
    ["Udp", "InDatagrams"],
    ["Udp", "NoPorts"],
    ["Tcp", "InSegs"],
  ] as const) {
    const [names, values] = text.split("\n").filter((line) => line.startsWith(`${protocol}: `));
    counted[`${protocol} ${name}`] = values?.split(" ")[names!.split(" ").indexOf(name)];
  }
  for (const line of procNet("snmp6").split("\n"))
    if (/^(Ip6InDelivers|Icmp6InMsgs)\s/.test(line)) {
      const [name, value] = line.split(/\s+/);
      counted[name!] = value;
    }
  return counted;
}

/** As the host sees it: its own /proc/net. */
function procNet(name: string): string {
  try {
    return inside("a", ["cat", `/proc/self/net/${name}`]);
  } catch {
    return "";
  }
}

const tables = () =>
  [
    ["ip", "-o", "address", "show"],
    ["ip", "-o", "route", "show", "table", "all"],
    ["ip", "-o", "-6", "route", "show", "table", "all"],
    ["ip", "-o", "neigh", "show"],
    ["ip", "-o", "-6", "neigh", "show"],
  ].map((words) =>
    // Neighbour states and times change by themselves between the two hosts.
    inside("a", words).replaceAll(/ (REACHABLE|STALE|DELAY|PROBE)|\d+sec/g, ""),
  );
