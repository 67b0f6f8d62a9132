/** mt-vnet's parts that need no kernel: what a segment needs, what a batch says, how work is collected. */
import { describe, expect, it } from "vitest";
import { guestIndexOf, guestMac, routerMac } from "../../../shared/addresses.ts";
import { tunnelPort } from "../../../shared/host/names.ts";
import type { Segment } from "../../../shared/records/index.ts";
import { movedTaps } from "../../../tools/mt-vnet/fabric/bridge/moved.ts";
import { planSegment } from "../../../tools/mt-vnet/fabric/bridge/segment-plan.ts";
import { switchesOf } from "../../../tools/mt-vnet/fabric/bridge/switches.ts";
import { isHere } from "../../../tools/mt-vnet/fabric/plan-here.ts";
import { parseFailures } from "../../../tools/mt-vnet/kernel/batch.ts";
import { collect } from "../../../tools/mt-vnet/kernel/collect.ts";
import type { Link } from "../../../tools/mt-vnet/kernel/kernel.ts";
import { applied, shapeLine } from "../../../tools/mt-vnet/shape/tc/tc.ts";

const link = (ifname: string, more: Partial<Link>): [string, Link] => [
  ifname,
  { ifname, mtu: 1500, up: true, carrier: true, arp: true, group: "default", addresses: [], ...more },
];
const segment: Segment = {
  kind: "segment",
  id: "a-b",
  hosts: ["ha", "hb"],
  vni: 3,
  members: [
    { host: "ha", underlay: "10.0.0.1", router: "a" },
    { host: "hb", underlay: "10.0.0.2", router: "b" },
    { host: "hb", underlay: "10.0.0.2", index: 0, count: 4 },
  ],
};

describe("a segment on one host", () => {
  // It was min(1500, underlay - 50) of the host in hand: 1500 on one host and 1450 on another.
  it("has the MTU of its record whatever the underlay here, else the same on every host", () => {
    for (const [mtu, underlay, expected] of [
      [undefined, 1500, 1450],
      [undefined, 9000, 1450],
      [1500, 9000, 1500],
      [1230, 1500, 1230],
    ] as const) {
      const plan = planSegment(
        "e",
        { ...segment, mtu },
        "ha",
        new Map([link("u", { mtu: underlay, addresses: ["10.0.0.1"] })]),
      )._unsafeUnwrap();
      expect(plan.mtu).toBe(expected);
      expect(plan.tunnel).toMatchObject({ vni: 3, local: "10.0.0.1", remotes: ["10.0.0.2"] });
    }
  });

  it("fails where the underlay here does not carry it", () => {
    const under = new Map([link("u", { mtu: 1499, addresses: ["10.0.0.1"] })]);
    const error = planSegment("e", { ...segment, mtu: 1450 }, "ha", under)._unsafeUnwrapErr();
    expect(error.message).toMatch(/1450 bytes and the 50 of the tunnel are more than u takes.* 1499$/);
    expect(error.hint).toContain("ip link set dev u mtu 1500");
    expect(planSegment("e", segment, "ha", under).isErr()).toBe(true);
  });

  it("needs no tunnel where all members are here", () => {
    const here = { ...segment, members: segment.members!.slice(0, 1) };
    expect(planSegment("e", here, "ha", new Map())._unsafeUnwrap()).toMatchObject({ mtu: 1500 });
    expect(planSegment("e", here, "ha", new Map())._unsafeUnwrap().tunnel).toBeUndefined();
  });

  it("says what is wrong with the underlay", () => {
    expect(planSegment("e", segment, "ha", new Map())._unsafeUnwrapErr().message).toBe(
      "Cannot build the tunnel of segment a-b: this host has no address 10.0.0.1",
    );
    const unplaced = { ...segment, members: [{ host: "ha" }, { host: "hb" }] };
    expect(planSegment("e", unplaced, "ha", new Map())._unsafeUnwrapErr().message).toContain(
      "underlay address of ha",
    );
  });

  it("is on the hosts that it names, else on those of its members", () => {
    expect(isHere(segment, "hc")).toBe(false);
    expect(isHere({ ...segment, hosts: undefined }, "hb")).toBe(true);
    expect(isHere({ ...segment, hosts: undefined }, "hc")).toBe(false);
  });

  it("has a tunnel port of its experiment", () => {
    expect(tunnelPort("one")).not.toBe(tunnelPort("two"));
    expect(tunnelPort("one")).toBeGreaterThanOrEqual(20_000);
    expect(tunnelPort("one")).toBeLessThan(30_000);
  });
});

describe("guests that moved to another host", () => {
  const plan = planSegment("e", segment, "ha", new Map([link("u", { addresses: ["10.0.0.1"] })]));
  const tap = (name: string, mac: string, more: Partial<Link> = {}) =>
    link(name, { kind: "tap", master: plan._unsafeUnwrap().bridge, macs: [mac], ...more });

  it("are those that the segment has elsewhere, whatever guests came with it", () => {
    const links = new Map([
      tap("t0", guestMac(0, 0)),
      tap("t3", guestMac(3, 1)),
      tap("t4", guestMac(4, 0)),
      tap("other", guestMac(0, 0), { master: "b0" }),
      link("v0", { kind: "veth", master: plan._unsafeUnwrap().bridge, macs: [routerMac(0, 0)] }),
    ]);
    expect(movedTaps(plan._unsafeUnwrap(), links).map((l) => l.ifname)).toEqual(["t0", "t3"]);
  });

  it("are told by their MACs", () => {
    expect(guestIndexOf(guestMac(0xfedcba98, 3))).toBe(0xfedcba98);
    expect(guestIndexOf(routerMac(7, 0))).toBeUndefined();
  });
});

describe("a batch of ip", () => {
  it("says which lines failed and why", () => {
    const { lines, rest } = parseFailures(
      'Cannot find device "x"\nCommand failed -:2\nRTNETLINK answers: File exists\nCommand failed -:6\n',
    );
    expect([...lines]).toEqual([
      [2, 'Cannot find device "x"'],
      [6, "File exists"],
    ]);
    expect(rest).toBeUndefined();
  });

  it("tells an end before its last line", () => {
    const { lines, rest } = parseFailures('Error: argument "b9" is wrong: Device does not exist\n\n');
    expect(lines.size).toBe(0);
    expect(rest).toBe('argument "b9" is wrong: Device does not exist');
  });
});

describe("shaping", () => {
  const plan = {
    id: "s",
    bridge: "b",
    tunnelName: "x",
    alias: "a",
    mtu: 1500,
    delay_ms: 5.7,
    loss: 0.01,
    rate_mbit: 50,
  };
  it("delays with netem where the kernel has it", () => {
    expect(shapeLine("p", plan, { netem: true })).toBe(
      "qdisc replace dev p root netem limit 100000 delay 5700us loss 1.0000% rate 50000000bit",
    );
    expect(applied(plan, { netem: true })).toEqual({ delay_ms: true, loss: true, rate_mbit: true });
  });
  it("limits the rate alone where it has not, and says so", () => {
    expect(shapeLine("p", plan, { netem: false, tbf: true })).toBe(
      "qdisc replace dev p root tbf rate 50000000bit burst 62500 latency 50ms",
    );
    expect(applied(plan, { netem: false, tbf: true })).toEqual({
      delay_ms: false,
      loss: false,
      rate_mbit: true,
    });
  });
});

describe("collecting work", () => {
  it("makes one batch of what comes together, and the next of what comes meanwhile", async () => {
    const batches: number[][] = [];
    const work = collect<number>(async (items) => {
      batches.push(items);
      await new Promise((resolve) => setImmediate(resolve));
    });
    const first = Promise.all([work.add(1), work.add(2)]);
    await first;
    work.add(3);
    work.add(4);
    await work.idle();
    expect(batches).toEqual([
      [1, 2],
      [3, 4],
    ]);
  });
  it("fails only who was in the failed batch", async () => {
    const work = collect<number>(async (items) => {
      if (items.includes(1)) throw new Error("no");
    });
    await expect(work.add(1)).rejects.toThrow("no");
    await expect(work.add(2)).resolves.toBeUndefined();
  });
});

it("ls finds segments by their aliases alone", () => {
  const links = new Map([
    link("bx", { kind: "bridge", alias: "mt:e:segment:lan" }),
    link("xx", { kind: "vxlan", alias: "mt:e:tunnel:lan", master: "bx", vni: 7, udp_port: 20001 }),
    link("t1", { kind: "tun", alias: "mt:e:guest:g0:0", master: "bx" }),
    link("docker0", { kind: "bridge" }),
  ]);
  expect(switchesOf(links, "h")).toMatchObject([
    { id: "lan", experiment: "e", ports: 1, tunnel: "xx", vni: 7 },
  ]);
});
