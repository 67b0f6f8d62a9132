import { createHash } from "node:crypto";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Guest, Host, Router, Segment } from "../../../shared/records/index.ts";
import { guestMembers, sliceGuest } from "../../../shared/records/members.ts";
import { linesFrom } from "../../../shared/stream/lines.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { generate } from "../../../tools/mt-topo/commands/gen.ts";
import { addGuests } from "../../../tools/mt-topo/commands/guests.ts";
import { placeOverflow, placePlan } from "../../../tools/mt-topo/commands/place.ts";
import { probePlan } from "../../../tools/mt-topo/commands/probe.ts";
import { graphOf } from "../../../tools/mt-topo/formats/gml/graph.ts";
import { parseGml } from "../../../tools/mt-topo/formats/gml/parse.ts";
import { decodeText } from "../../../tools/mt-topo/formats/other.ts";
import { generatorNamed } from "../../../tools/mt-topo/generators/generators.ts";
import { checkAddresses } from "../../../tools/mt-topo/plan/addresses.ts";
import { complete } from "../../../tools/mt-topo/plan/complete.ts";
import { type Plan, readPlan, writePlan } from "../../../tools/mt-topo/plan/plan.ts";
import { planOf } from "../../../tools/mt-topo/plan/routed.ts";

const dir = mkdtempSync(join(tmpdir(), "mt-topo-"));
afterAll(() => rmSync(dir, { recursive: true }));

const fixture = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url));
async function* bytes(text: string) {
  yield Buffer.from(text);
}
const read = async (text: string, whole = true) => {
  const plan = await readPlan(linesFrom(bytes(text)), whole);
  return plan.andThen((p) => complete(p).map(() => p));
};
const write = (plan: Plan) => {
  const file = join(dir, "plan");
  const fd = openSync(file, "w");
  writePlan(plan, new LineWriter(fd));
  closeSync(fd);
  return readFileSync(file, "utf8");
};
const fromGml = (data: Buffer) =>
  parseGml(decodeText(data))
    .andThen(graphOf)
    .andThen((g) => planOf(g, "x", 1))
    ._unsafeUnwrap();
const GENERATORS = { ring: await generatorNamed("ring"), grid: await generatorNamed("grid") };
const graphOfShape = (kind: "ring" | "grid", n: number) => generate(GENERATORS[kind], n);
const shape = (kind: "ring" | "grid", n: number) => planOf(graphOfShape(kind, n), "x", 1)._unsafeUnwrap();
const withGuests = (plan: Plan, n: number) => {
  addGuests(plan, n, { image: "tux", cores: 1, mem_mib: 128 })._unsafeUnwrap();
  if (plan.images.length === 0)
    plan.images.push({ record: { kind: "image", id: "tux", os: "linux", fork: true } });
  return plan;
};
const hostsOf = (n: number, mem_mib = 6000): Host[] =>
  Array.from({ length: n }, (_, i) => ({
    kind: "host",
    id: `h${i + 1}`,
    addr: `10.254.0.${i + 1}`,
    cores: 1,
    mem_mib,
  }));
const records = <R>(list: { record: R }[]) => list.map((e) => e.record);
const abilene = () => fromGml(fixture("../../examples/abilene.gml"));

describe("gen", () => {
  it("makes rings and connected grids of any size", () => {
    expect([1, 2, 3, 7].map((n) => graphOfShape("ring", n).links.length)).toEqual([0, 1, 3, 7]);
    expect(graphOfShape("grid", 1).links).toEqual([]);
    for (let n = 1; n <= 60; n++) {
      const { links } = graphOfShape("grid", n);
      const reached = new Set([0]);
      for (let round = 0; round < n; round++)
        for (const { a, b } of links) {
          if (reached.has(a)) reached.add(b);
          if (reached.has(b)) reached.add(a);
        }
      expect(reached.size).toBe(n);
      expect(new Set(links.map(({ a, b }) => `${a} ${b}`)).size).toBe(links.length);
    }
    // 3 × 4: 9 links across, 8 down.
    expect(graphOfShape("grid", 12).links.length).toBe(17);
  });
});

describe("import", () => {
  it("takes Abilene", () => {
    const plan = abilene();
    expect(plan.routers.length).toBe(11);
    expect(plan.segments.length).toBe(14);
    const link = records(plan.segments).find((s) => s.id === "chicago-new-york")!;
    expect(link.delay_ms).toBeCloseTo(5.73, 1);
  });

  const zoo = new URL("../../../../shared/data/topologies/", import.meta.url);
  it("takes files of the Topology Zoo's toolset: one made up, and the Zoo's own where they are beside the repository", () => {
    const made = fromGml(fixture("../fixtures/topologies/zoo-style.gml"));
    expect(records(made.routers).map((r) => r.id)).toEqual([
      "west-end",
      "none",
      "none-2",
      "east-end",
      "island",
    ]);
    expect(records(made.segments).map((s) => [s.id, s.rate_mbit, s.delay_ms !== undefined])).toEqual([
      ["west-end-east-end", 10_000, true],
      ["west-end-east-end-2", 2500, true],
      ["west-end-none", 9953.28, false],
      ["east-end-none-2", undefined, false],
    ]);
    if (!existsSync(zoo)) return;
    const sizes = { "Abilene.gml": [11, 14], "Geant2012.gml": [40, 61] };
    for (const [file, size] of Object.entries(sizes)) {
      const plan = fromGml(readFileSync(new URL(file, zoo)));
      expect([plan.routers.length, plan.segments.length]).toEqual(size);
      expect(new Set(records(plan.routers).map((r) => r.id)).size).toBe(size[0]);
    }
    const names = (plan: Plan) =>
      records(plan.routers)
        .map((r) => r.id)
        .sort();
    const theirs = fromGml(readFileSync(new URL("Abilene.gml", zoo)));
    expect(names(abilene())).toEqual(names(theirs));
  });

  it("fills in what a plan by hand leaves out, and keeps unknown kinds byte for byte", async () => {
    const text = fixture("../fixtures/topologies/by-hand.jsonl").toString();
    const plan = (await read(text, false))._unsafeUnwrap();
    expect(records(plan.segments).map((s) => [s.id, s.vni, s.prefix])).toEqual([
      ["a-b", 2, "10.255.0.0/31"],
      ["office", 1, "192.168.7.0/24"],
      ["spare", 3, "10.255.0.2/31"],
    ]);
    expect(records(plan.routers).map((r) => r.index)).toEqual([1, 0]);
    expect(plan.guests[0]!.record.index).toBe(0);
    const out = write(plan);
    expect(out).toContain('{"kind":"dhcp","id":"pool-a","host":"kn1",  "lease_s":60}\n');
    expect(out).toContain('"counts":{"image":1,"segment":3,"router":2,"guest":3,"dhcp":1}}');
    const again = (await read(out))._unsafeUnwrap();
    expect(write(again)).toBe(out);
  });

  it("10,000 nodes and 30,000 links of text take no longer than they must", () => {
    const nodes = Array.from(
      { length: 10_000 },
      (_, i) => `node [ id ${i} label "None" Latitude ${i % 90} Longitude 7 ]`,
    );
    const edges = Array.from(
      { length: 30_000 },
      (_, i) => `edge [ source ${i % 10_000} target ${(i * 7 + 1) % 10_000} ]`,
    );
    const began = performance.now();
    const plan = fromGml(Buffer.from(`graph [\n${nodes.join("\n")}\n${edges.join("\n")}\n]`));
    expect(plan.routers.length).toBe(10_000);
    expect(performance.now() - began).toBeLessThan(5000);
  });
});

describe("what is no whole plan is refused", () => {
  const head = '{"kind":"experiment","id":"x","version":1,"seed":1}\n';
  const host = '{"kind":"host","id":"h1","cores":1,"mem_mib":1}\n';
  const guest = (id: string, index: number) =>
    `{"kind":"guest","id":"${id}","index":${index},"image":"tux","cores":1,"mem_mib":1,"interfaces":[]}\n`;
  const end = '{"kind":"end","id":"x","counts":{}}\n';
  const why = async (text: string) => {
    const result = await read(text);
    return result.isErr() ? `${result.error.code}: ${result.error.message}` : "taken";
  };
  it.each([
    ["no end", head + host, "ended after 2 lines without an end"],
    ["no experiment", end, "no experiment"],
    ["no JSON", `${head}{"kind"\n${end}`, "line 2: it is no JSON"],
    ["a bad field", `${head}{"kind":"host","id":"h1","cores":-1,"mem_mib":1}\n${end}`, "line 2: host cores"],
    ["a hostile id", `${head}{"kind":"host","id":"../h","cores":1,"mem_mib":1}\n${end}`, "line 2: host id"],
    ["an unknown version", head.replace('"version":1', '"version":2'), "plan version 2"],
    ["a kind and id twice", head + host + host + end, "line 3: host h1 is there twice"],
    [
      "a guest twice, as a range",
      head + guest("g[0-9]", 0) + guest("g[9-12]", 10) + end,
      "line 3: guest g9 is there twice",
    ],
    [
      "a guest twice, one alone",
      head + guest("g7", 0) + guest("g[0-9]", 1) + end,
      "line 3: guest g7 is there twice",
    ],
    [
      "a guest twice, by padding",
      head + guest("g[08-12]", 0) + guest("g10", 9) + end,
      "line 3: guest g10 is there twice",
    ],
    [
      "a guest twice, by the bracket's place",
      head + guest("g1[0-2]", 0) + guest("g11", 9) + end,
      "guest g11 is there twice",
    ],
    ["an index twice", head + guest("a[0-3]", 0) + guest("b[0-3]", 3) + end, "index 3"],
    ["lost records", head + host + end.replace("{}", '{"host":2}'), "counts 2 of kind host, 1 came"],
    ["a record after end", head + end + host, "line 3: it stands after the end"],
  ])("%s", async (_, text, expected) => {
    expect(await why(text)).toContain(expected);
    expect(await why(text)).toMatch(/^data: /);
  });
  it("equal names of other families are no duplicates", async () => {
    expect(await why(head + guest("g[0-9]", 0) + guest("h[0-9]", 10) + guest("g[00-09]", 20) + end)).toBe(
      "taken",
    );
  });
});

describe("guests", () => {
  it("come out even, the first routers get one more, one range a LAN", () => {
    const plan = withGuests(shape("ring", 3), 8);
    expect(records(plan.guests).map((g) => [g.id, g.index, g.interfaces[0]])).toEqual([
      ["g[0-2]", 0, { segment: "lan-r0", ip: "10.1.0.10/16", gateway: "10.1.0.1" }],
      ["g[3-5]", 3, { segment: "lan-r1", ip: "10.2.0.10/16", gateway: "10.2.0.1" }],
      ["g[6-7]", 6, { segment: "lan-r2", ip: "10.3.0.10/16", gateway: "10.3.0.1" }],
    ]);
    expect(plan.routers[2]!.record.interfaces.at(-1)).toEqual({ segment: "lan-r2", ip: "10.3.0.1/16" });
    expect(plan.segments.at(-1)!.record).toMatchObject({ id: "lan-r2", vni: 6, prefix: "10.3.0.0/16" });
  });

  it("fewer than routers: LANs only where there are guests", () => {
    const plan = withGuests(shape("ring", 5), 2);
    expect(records(plan.guests).map((g) => g.id)).toEqual(["g0", "g1"]);
    expect(plan.segments.length).toBe(7);
  });

  it("added twice go on in numbers and in their LANs", () => {
    const plan = withGuests(withGuests(shape("ring", 2), 4), 3);
    expect(records(plan.guests).map((g) => [g.id, g.index, g.interfaces[0]!.ip])).toEqual([
      ["g[0-1]", 0, "10.1.0.10/16"],
      ["g[2-3]", 2, "10.2.0.10/16"],
      ["g[4-5]", 4, "10.1.0.12/16"],
      ["g6", 6, "10.2.0.12/16"],
    ]);
    expect(plan.segments.length).toBe(3);
  });

  it("are placed past the address that their router has, and a filled-in prefix overlaps none", async () => {
    const record = (r: object) => `${JSON.stringify(r)}\n`;
    const router = { kind: "router", id: "a", engine: "bird", protocol: "ospf" };
    const text =
      record({ kind: "experiment", id: "x", version: 1, seed: 1 }) +
      record({ kind: "segment", id: "lan-a", prefix: "10.255.0.0/24" }) +
      record({ kind: "segment", id: "spare" }) +
      record({ ...router, interfaces: [{ segment: "lan-a", ip: "10.255.0.11/24" }] });
    const plan = withGuests((await read(text, false))._unsafeUnwrap(), 4);
    expect(plan.guests[0]!.record.interfaces[0]!.ip).toBe("10.255.0.12/24");
    expect(plan.segments[1]!.record.prefix).toBe("10.255.1.0/31");
    expect(placePlan(plan, hostsOf(1)).isOk()).toBe(true);
  });

  it("more LANs than /16s share one longer prefix; addresses stay apart", () => {
    const plan = withGuests(shape("grid", 1000), 1_000_000);
    const lans = records(plan.segments).filter((s) => s.id.startsWith("lan-"));
    expect(lans.length).toBe(1000);
    expect(new Set(lans.map((s) => s.prefix)).size).toBe(1000);
    expect(new Set(lans.map((s) => s.prefix!.split("/")[1]))).toEqual(new Set(["18"]));
    expect(plan.guests.at(-1)!.record.id).toBe("g[999000-999999]");
  });

  it("that do not fit are refused", () => {
    const many = addGuests(shape("ring", 200), 10_000_000, { image: "tux", cores: 1, mem_mib: 128 });
    expect(many.isOk()).toBe(true);
    const tooMany = addGuests(planOf(graphOfShape("ring", 255), "x", 1)._unsafeUnwrap(), 255 * 65_600, {
      image: "tux",
      cores: 1,
      mem_mib: 1,
    });
    expect(tooMany._unsafeUnwrapErr()).toMatchObject({
      code: "data",
      message: expect.stringContaining("Cannot number 255 LANs"),
    });
  });
});

describe("place", () => {
  const placed = (plan: Plan, hosts: Host[]) => {
    placePlan(plan, hosts)._unsafeUnwrap();
    return plan;
  };
  /** Every guest once, on a host that its segment, image and members name. */
  const expectClosed = (plan: Plan) => {
    const guests = records(plan.guests);
    const segments = new Map(records(plan.segments).map((s) => [s.id, s]));
    for (const record of [...records(plan.routers), ...guests] as (Router | Guest)[])
      for (const { segment } of record.interfaces)
        expect(segments.get(segment)!.hosts).toContain(record.host);
    for (const segment of segments.values()) {
      const on = guests.filter((g) => g.interfaces.some((i) => i.segment === segment.id));
      const indexes = on.flatMap((g) =>
        guestMembers(g)
          ._unsafeUnwrap()
          .map((m) => `${m.host} ${m.index}`),
      );
      const said = segment.members!.flatMap((m) =>
        Array.from({ length: m.count ?? 0 }, (_, k) => `${m.host} ${m.index! + k}`),
      );
      expect(said.sort()).toEqual(indexes.sort());
      expect([...new Set(segment.members!.map((m) => m.host))].sort()).toEqual([...segment.hosts!].sort());
    }
  };

  it("Abilene on four hosts: LANs whole, evenly, members merged, few links cut", () => {
    const plan = placed(withGuests(abilene(), 44), hostsOf(4));
    expectClosed(plan);
    expect(plan.guests.length).toBe(11);
    const perHost = new Map<string, number>();
    for (const g of records(plan.guests)) perHost.set(g.host!, (perHost.get(g.host!) ?? 0) + 4);
    expect([...perHost.values()].sort()).toEqual([12, 12, 12, 8].sort());
    expect(plan.routers[0]!.record.host).toBe("h1");
    const lan = records(plan.segments).find((s) => s.id === "lan-seattle")!;
    expect(lan.members).toEqual([
      { host: "h1", underlay: "10.254.0.1", router: "seattle", index: 0, count: 4 },
    ]);
    const cut = records(plan.segments).filter((s) => s.hosts!.length > 1).length;
    expect(cut).toBeLessThanOrEqual(9);
  });

  it("placed again changes nothing, byte for byte; neither does another set for what has a host", async () => {
    for (const plan of [withGuests(abilene(), 44), withGuests(shape("ring", 2), 1000)]) {
      const first = write(placed(plan, hostsOf(4)));
      const again = (await read(first))._unsafeUnwrap();
      expect(write(placed(again, hostsOf(4)))).toBe(first);
      const elsewhere = (await read(first))._unsafeUnwrap();
      placed(elsewhere, [{ ...hostsOf(1)[0]!, id: "new" }]);
      expect(records(elsewhere.guests)).toEqual(records(plan.guests));
      expect(records(elsewhere.hosts).map((h) => h.id)).toEqual(["new", "h1", "h2", "h3", "h4"]);
    }
  });

  it("splits a LAN that is too big for one host; its router goes to the most of it", () => {
    const plan = placed(withGuests(shape("ring", 1), 1000), [
      ...hostsOf(2),
      { ...hostsOf(3)[2]!, mem_mib: 12000 },
    ]);
    expectClosed(plan);
    const share = records(plan.guests).map((g) => [g.host, guestMembers(g)._unsafeUnwrap().length]);
    expect(share).toEqual([
      ["h1", expect.closeTo(250, -1)],
      ["h2", expect.closeTo(250, -1)],
      ["h3", expect.closeTo(500, -1)],
    ]);
    expect(plan.routers[0]!.record.host).toBe("h3");
    const ips = records(plan.guests).flatMap((g) =>
      guestMembers(g)
        ._unsafeUnwrap()
        .map((m) => m.interfaces[0]!.ip),
    );
    expect(new Set(ips).size).toBe(1000);
  });

  it("every guest is placed once, whatever the sizes", () => {
    for (const [routers, guests, hosts] of [
      [1, 0, 3],
      [3, 1, 5],
      [7, 100, 3],
      [4, 999, 50],
      [30, 10, 4],
      [5, 5, 40],
      [2, 13, 2],
    ] as const) {
      const plan = placed(withGuests0(shape("grid", routers), guests), hostsOf(hosts));
      expectClosed(plan);
      const indexes = records(plan.guests).flatMap((g) =>
        guestMembers(g)
          ._unsafeUnwrap()
          .map((m) => m.index),
      );
      expect(indexes.sort((a, b) => a - b)).toEqual(Array.from({ length: guests }, (_, i) => i));
      expect(records(plan.routers).every((r) => r.host)).toBe(true);
    }
  });
  const withGuests0 = (plan: Plan, n: number) => (n === 0 ? plan : withGuests(plan, n));

  it("routers alone are spread too", () => {
    const plan = placed(shape("ring", 8), hostsOf(4));
    const hosts = records(plan.routers).map((r) => r.host);
    for (const h of hostsOf(4)) expect(hosts.filter((x) => x === h.id).length).toBe(2);
  });

  it("keeps a host that is set, and its LAN follows", () => {
    const plan = withGuests(shape("ring", 4), 8);
    plan.routers[0]!.record.host = "h2";
    plan.guests[3]!.record.host = "h1";
    placed(plan, hostsOf(2));
    expectClosed(plan);
    expect([plan.routers[0]!.record.host, plan.guests[0]!.record.host]).toEqual(["h2", "h2"]);
    expect([plan.routers[3]!.record.host, plan.guests[3]!.record.host]).toEqual(["h1", "h1"]);
    expect(records(plan.routers).filter((r) => r.host === "h1").length).toBe(2);
  });

  it("reaches is that of the connected component", () => {
    const plan = shape("ring", 2);
    const other = shape("ring", 1);
    plan.routers.push({ record: { ...other.routers[0]!.record, id: "alone", index: 2 } });
    placed(plan, hostsOf(1));
    const digest = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;
    expect(plan.routers[1]!.record.reaches).toEqual({ prefixes: 1, digest: digest("10.255.0.0/31") });
    expect(plan.routers[2]!.record.reaches).toEqual({ prefixes: 0, digest: digest("") });
    const ring = placed(withGuests(shape("ring", 3), 3), hostsOf(2));
    const prefixes = records(ring.segments)
      .map((s: Segment) => s.prefix!)
      .sort();
    expect(ring.routers[0]!.record.reaches).toEqual({ prefixes: 6, digest: digest(prefixes.join("\n")) });
  });

  it("refuses names of what does not exist", () => {
    const broken = (change: (plan: Plan) => void) => {
      const plan = withGuests(shape("ring", 3), 3);
      change(plan);
      return placePlan(plan, hostsOf(1))._unsafeUnwrapErr();
    };
    expect(broken((p) => p.segments.pop()).message).toContain("segment lan-r2 does not exist");
    expect(broken((p) => p.images.pop()).message).toContain("image tux does not exist");
    expect(broken((p) => (p.guests[0]!.record.host = "nowhere")).message).toContain(
      "host nowhere does not exist",
    );
    expect(broken((p) => p.routers.pop()).message).toContain("router r2 does not exist");
    expect(broken((p) => (p.guests[0]!.record.interfaces[0]!.ip = "10.9.0.10/16")).message).toContain(
      "is not in 10.1.0.0/16",
    );
    expect(broken((p) => (p.guests[0]!.record.host = "nowhere")).code).toBe("data");
  });

  it("refuses addresses that cannot work together, naming the records", () => {
    const broken = (change: (plan: Plan) => void) => {
      const plan = withGuests(shape("ring", 3), 9);
      change(plan);
      const result = placePlan(plan, hostsOf(1));
      return result.isErr() ? `${result.error.code}: ${result.error.message}` : "taken";
    };
    const nic = (p: Plan, g: number) => p.guests[g]!.record.interfaces[0]!;
    const ends = (p: Plan) =>
      p.routers.flatMap(({ record }) => record.interfaces).filter((i) => i.segment === "r0-r1");
    expect(broken(() => {})).toBe("taken");
    expect(broken((p) => (ends(p)[1]!.ip = ends(p)[0]!.ip))).toBe(
      "data: Cannot place router r0 and router r1: both have address 10.255.0.0 on segment r0-r1",
    );
    expect(broken((p) => (nic(p, 0).ip = "10.1.0.1/16"))).toMatch(
      /router r0 and guest g\[0-2\]: both have address 10\.1\.0\.1 /,
    );
    // The last of g[0-2] is 10.1.0.12, inside the other range; another one lies between them in the plan.
    expect(
      broken((p) => Object.assign(nic(p, 1), { segment: "lan-r0", ip: "10.1.0.12/16", gateway: "10.1.0.1" })),
    ).toMatch(/guest g\[0-2\] and guest g\[3-5\]: both have address 10\.1\.0\.12 on segment lan-r0/);
    expect(broken((p) => p.guests[0]!.record.interfaces.push({ ...nic(p, 0), ip: "10.1.0.11/16" }))).toMatch(
      /guest g\[0-2\]: two interfaces have address 10\.1\.0\.11/,
    );
    expect(broken((p) => (nic(p, 0).gateway = "10.2.0.1"))).toMatch(
      /guest g\[0-2\]: its gateway 10\.2\.0\.1 is not in 10\.1\.0\.0\/16, the prefix of segment lan-r0/,
    );
    expect(
      broken((p) =>
        p.segments.push({
          record: { ...p.segments.at(-1)!.record, id: "wide", vni: 99, prefix: "10.0.0.0/8" },
        }),
      ),
    ).toMatch(/segments wide and .*: their prefixes 10\.0\.0\.0\/8 and .* overlap/);
  });

  it("checks 10,000 segments and 200,000 guests by hand in little time", () => {
    const plan = shape("ring", 10_000);
    plan.images.push({ record: { kind: "image", id: "tux", os: "linux", fork: true } });
    plan.segments.push({ record: { kind: "segment", id: "lan", vni: 20_000, prefix: "10.0.0.0/12" } });
    for (let i = 0; i < 200_000; i++) {
      const ip = `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/12`;
      const shape = { image: "tux", cores: 1, mem_mib: 1 };
      plan.guests.push({
        record: { kind: "guest", id: `g${i}`, index: i, ...shape, interfaces: [{ segment: "lan", ip }] },
      });
    }
    const began = performance.now();
    expect(checkAddresses(plan).isOk()).toBe(true);
    expect(performance.now() - began).toBeLessThan(5000);
    plan.guests[0]!.record.interfaces[0]!.ip = plan.guests[199_999]!.record.interfaces[0]!.ip;
    expect(checkAddresses(plan)._unsafeUnwrapErr().message).toContain("guest g0 and guest g199999: both");
  });

  it("a million guests on 4,400 hosts are few records, and quick", () => {
    const began = performance.now();
    const plan = placed(withGuests(shape("grid", 1000), 1_000_000), hostsOf(4400));
    expect(performance.now() - began).toBeLessThan(10_000);
    expect(plan.guests.length).toBeLessThan(5500);
    expect(new Set(records(plan.guests).map((g) => g.host)).size).toBe(4400);
  });
});

describe("the MTU of segments", () => {
  const hostsWith = (...mtus: (number | undefined)[]): Host[] =>
    hostsOf(mtus.length).map((host, i) => (mtus[i] === undefined ? host : { ...host, mtu: mtus[i] }));
  const ring = () => withGuests(shape("ring", 2), 4);
  const mtusOf = (plan: Plan) => Object.fromEntries(records(plan.segments).map((s) => [s.id, s.mtu]));
  const link = (plan: Plan) => plan.segments.find(({ record }) => record.id === "r0-r1")!;

  it("is what every underlay on its way carries beside a tunnel, 1500 at most and where no tunnel is", () => {
    for (const [hosts, expected] of [
      [hostsWith(undefined, undefined), 1450],
      [hostsWith(1500, 1500), 1450],
      [hostsWith(9000, 1500), 1450],
      [hostsWith(9000, 9000), 1500],
      [hostsWith(1400, 9000), 1350],
      [hostsWith(1280, 1500), 1230],
      [hostsWith(65_536, 1549), 1499],
    ] as const) {
      const plan = ring();
      placePlan(plan, hosts)._unsafeUnwrap();
      expect(mtusOf(plan)).toEqual({ "r0-r1": expected, "lan-r0": 1500, "lan-r1": 1500 });
      expect(records(plan.guests).map((g) => g.interfaces[0]!.mtu)).toEqual([1500, 1500]);
      expect(records(plan.hosts).map((h) => h.mtu)).toEqual(hosts.map((h) => h.mtu));
    }
  });

  it("that the plan asks for is kept, or refused where it does not get through", () => {
    const plan = ring();
    for (const entry of plan.segments) entry.record = { ...entry.record, mtu: 1400 };
    placePlan(plan, hostsWith(1450, 9000))._unsafeUnwrap();
    expect(new Set(Object.values(mtusOf(plan)))).toEqual(new Set([1400]));
    const jumbo = ring();
    for (const entry of jumbo.segments) entry.record = { ...entry.record, mtu: 8950 };
    placePlan(jumbo, hostsWith(9000, 9000))._unsafeUnwrap();
    expect(records(jumbo.guests)[0]!.interfaces[0]!.mtu).toBe(8950);
    const wide = ring();
    link(wide).record.mtu = 1500;
    const refused = placePlan(wide, hostsWith(9000, 1500))._unsafeUnwrapErr();
    expect(refused.message).toMatch(
      /segment r0-r1: its mtu is 1500, .* 1450 bytes get through .*underlay of h2/,
    );
    expect(refused.hint).toContain("h2 to 1550");
    const none = placePlan(ring(), hostsWith(600, 1500))._unsafeUnwrapErr();
    expect(none.message).toMatch(/underlay of h1 carries packets of 600 bytes/);
  });

  it("of an earlier place stays, byte for byte, and is lowered where a narrower host comes to it", async () => {
    const plan = ring();
    placePlan(plan, hostsWith(9000, 9000))._unsafeUnwrap();
    const text = write(plan);
    const again = (await read(text))._unsafeUnwrap();
    placePlan(again, hostsWith(9000, 9000))._unsafeUnwrap();
    expect(write(again)).toBe(text);
    const narrower = (await read(text))._unsafeUnwrap();
    placePlan(narrower, hostsWith(9000, 1500))._unsafeUnwrap();
    expect(mtusOf(narrower)).toEqual({ "r0-r1": 1450, "lan-r0": 1500, "lan-r1": 1500 });
  });
});

describe("place --overflow", () => {
  const busy = (message: string) => ({ by: "mt-boot", code: "busy" as const, message });
  /** The plan as `mt-boot up --until-full` gave it out: so many of each record are ready, the rest found no room. */
  const givenOut = (plan: Plan, ready: (guest: Guest) => number) => {
    plan.guests = plan.guests.flatMap(({ record }) => {
      const n = guestMembers(record)._unsafeUnwrap().length;
      const k = Math.min(n, ready(record));
      // Refused for two reasons, as it happens: two records.
      const cuts = [0, k, Math.min(n, k + 1), n];
      return cuts.slice(1).flatMap((to, i) => {
        if (to === cuts[i]) return [];
        const part = sliceGuest(record, cuts[i]!, to - cuts[i]!)._unsafeUnwrap();
        const state: Partial<Guest> =
          i === 0 ? { state: "ready" } : { state: "planned", error: busy(`Cannot boot: ${i}`) };
        return [{ record: { ...part, ...state } }];
      });
    });
    return plan;
  };
  const rows = (plan: Plan) => records(plan.guests).map((g) => [g.id, g.host, g.state, g.error?.code]);
  const placed = (plan: Plan, hosts: Host[]) => {
    placePlan(plan, hosts)._unsafeUnwrap();
    return plan;
  };
  const overflow = async (plan: Plan, hosts: Host[]) => {
    const read_again = (await read(write(plan)))._unsafeUnwrap();
    placeOverflow(read_again, hosts)._unsafeUnwrap();
    return read_again;
  };

  it("what found no room goes to the other host, is one range again, and is who it was", async () => {
    const before = placed(withGuests(shape("ring", 1), 8), hostsOf(1));
    const whole = guestMembers(before.guests[0]!.record)._unsafeUnwrap();
    const plan = await overflow(
      givenOut(before, () => 3),
      hostsOf(2),
    );
    expect(rows(plan)).toEqual([
      ["g[0-2]", "h1", "ready", undefined],
      ["g[3-7]", "h2", undefined, undefined],
    ]);
    const members = records(plan.guests).flatMap((g) => guestMembers(g)._unsafeUnwrap());
    // All but the MTU: its LAN reaches over hosts now.
    const who = ({ id, index, interfaces }: Guest) => ({
      id,
      index,
      interfaces: interfaces.map(({ mtu: _mtu, ...nic }) => nic),
    });
    expect(records(plan.guests).map((g) => g.interfaces[0]!.mtu)).toEqual([1450, 1450]);
    expect(members.map(who)).toEqual(whole.map(who));
    expect(plan.routers[0]!.record.host).toBe("h1");
    expect(records(plan.segments).find((s) => s.id === "lan-r0")).toMatchObject({
      hosts: ["h1", "h2"],
      members: [
        { host: "h1", underlay: "10.254.0.1", router: "r0", index: 0, count: 3 },
        { host: "h2", underlay: "10.254.0.2", index: 3, count: 5 },
      ],
    });
    expect(records(plan.images)[0]!.hosts).toEqual(["h1", "h2"]);
    expect(records(plan.hosts).map((h) => [h.id, h.full])).toEqual([
      ["h1", true],
      ["h2", undefined],
    ]);
  });

  it("a host that was full stays so in the next round; where none is left it fails and says which", async () => {
    const first = await overflow(
      givenOut(placed(withGuests(shape("ring", 1), 8), hostsOf(1)), () => 3),
      hostsOf(2),
    );
    const second = givenOut(first, (g) => (g.host === "h1" ? 3 : 1));
    const text = write(second);
    const third = await overflow(second, hostsOf(3));
    expect(rows(third).map(([id, host]) => [id, host])).toEqual([
      ["g[0-2]", "h1"],
      ["g3", "h2"],
      ["g[4-7]", "h3"],
    ]);
    const none = placeOverflow((await read(text))._unsafeUnwrap(), hostsOf(2))._unsafeUnwrapErr();
    expect(none.code).toBe("failed");
    expect(none.message).toBe("Cannot place 4 guests that found no room: no host is left, h[1-2] are full");
  });

  const counts = (plan: Plan) => {
    const on: Record<string, number> = {};
    for (const g of records(plan.guests))
      on[g.host!] = (on[g.host!] ?? 0) + guestMembers(g)._unsafeUnwrap().length;
    return on;
  };

  it("several hosts share it by what they have left of their share; what failed or is up stays", async () => {
    const given = givenOut(placed(withGuests(shape("ring", 1), 600), hostsOf(1)), () => 20);
    const [h1, h2, h3] = hostsOf(3);
    const split = await overflow(given, [h1!, h2!, { ...h3!, mem_mib: 12_000 }]);
    expect(counts(split)).toEqual({ h1: 20, h2: expect.closeTo(193, -1), h3: expect.closeTo(387, -1) });

    const plan = placed(withGuests(shape("ring", 1), 300), hostsOf(3));
    const home = plan.routers[0]!.record.host!;
    const before = counts(plan);
    const partly = givenOut(plan, (g) => (g.host === home ? 20 : 1000));
    const last = partly.guests.at(-1)!;
    last.record = { ...last.record, state: "failed", error: busy("Cannot boot") };
    const stays = records(partly.guests).filter((g) => g.state !== "planned");
    const after = await overflow(partly, hostsOf(5));
    expect(records(after.guests)).toEqual(expect.arrayContaining(stays));
    const { h4 = 0, h5 = 0, ...older } = counts(after);
    expect(older).toEqual({ ...before, [home]: 20 });
    expect([h4, h5]).toEqual([40, 40]);
  });

  it("where all fitted, the plan comes out as it went in", async () => {
    const given = givenOut(placed(withGuests(abilene(), 44), hostsOf(4)), () => 1000);
    const text = write(given);
    expect(write(await overflow(given, hostsOf(4)))).toBe(text);
  });
});

describe("ports of a bridge", () => {
  // One router, so one LAN: its guests and the router's own port.
  const placed = (guests: number, hosts: Host[]) => placePlan(withGuests(shape("ring", 1), guests), hosts);

  it("are 1,023 on one host, the tunnel among them", () => {
    const big = hostsOf(1, 1_000_000);
    expect(placed(1022, big).isOk()).toBe(true);
    expect(placed(1023, big)._unsafeUnwrapErr()).toMatchObject({
      code: "data",
      message:
        "Cannot place segment lan-r0: it would have 1024 ports on host h1, and a Linux bridge takes 1023",
      hint: "use more hosts, or more and smaller segments",
    });
  });

  it("are enough where more hosts have the LAN, and there the tunnel is one", () => {
    const plan = withGuests(shape("ring", 1), 2042);
    expect(placePlan(plan, hostsOf(2, 1_000_000)).isOk()).toBe(true);
    expect(records(plan.guests).map((g) => [g.id, g.host])).toEqual([
      ["g[0-1020]", "h1"],
      ["g[1021-2041]", "h2"],
    ]);
    expect(placed(2044, hostsOf(2, 1_000_000))._unsafeUnwrapErr().message).toMatch(/ 1024 ports on host h\d/);
  });
});

describe("probe", () => {
  it("joins each host with itself and with the next, in a ring: as many tunnels as hosts", () => {
    for (const [n, tunnels] of [
      [1, 0],
      [2, 1],
      [3, 3],
      [100, 100],
    ] as const) {
      const plan = probePlan(hostsOf(n), "probe")._unsafeUnwrap();
      const segments = records(plan.segments);
      expect(segments.filter((s) => s.hosts!.length === 1)).toHaveLength(n);
      const crossing = segments.filter((s) => s.hosts!.length === 2);
      expect(crossing).toHaveLength(tunnels);
      const met = new Map<string, number>();
      for (const host of crossing.flatMap((s) => s.hosts!)) met.set(host, (met.get(host) ?? 0) + 1);
      expect([...met.values()].every((k) => k === (n === 2 ? 1 : 2))).toBe(true);
    }
  });
});
