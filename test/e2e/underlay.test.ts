/**
 * Networks under the tunnels as in real clusters: MTUs of 9000, 1500, 1400 and 1280 together. A segment has one
 * MTU on all its hosts, routers and guests have it, and packets that do not get through are reported.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lab, type Rec, records } from "./lab.ts";

describe.skipIf(process.getuid?.() !== 0)("underlays with different MTUs (needs root)", () => {
  let lab: Lab;
  beforeAll(() => {
    lab = new Lab();
    lab.image();
    expect(lab.sh("mt-topo gen ring --routers 4 --id under >ring").code).toBe(0);
  });
  afterAll(() => {
    lab?.sh("mt-launch down under; mt-launch down lan");
    lab?.remove();
  });
  const inHost = (host: string, line: string) => lab.sh(`ip netns exec mt-${host} ${line}`).stdout;
  const verdictOf = (stdout: string): Rec => records(stdout)[0]!;

  test("hosts say what they were given, 1500 unless they were", () => {
    const up = lab.sh("mt-tree up 'tun[1-4]' --via local --mtu 9000 --mtu tun3=1400 --mtu tun4=1280");
    expect(records(up.stdout).map((h) => h.mtu)).toEqual([9000, 9000, 1400, 1280]);
    expect(inHost("tun3", "cat /proc/sys/net/ipv6/conf/eth0/mtu").trim()).toBe("1400");
    const changed = lab.sh("mt-tree up --mtu tun2=1500 >/dev/null && mt-tree status --records");
    expect(records(changed.stdout).map((h) => h.mtu)).toEqual([9000, 1500, 1400, 1280]);
  });

  test("a ring over all of them converges, and guests' largest packets get through", () => {
    const up = lab.sh("mt-launch up ring --guests 8");
    expect(up.stderr).not.toMatch(/Cannot/);
    expect(verdictOf(up.stdout)).toMatchObject({
      converged: 4,
      ready: 8,
      pairs_tried: 24,
      pairs_reached: 24,
    });
    expect(verdictOf(up.stdout).pairs_full_sized).toBe(24);
    expect(up.code).toBe(0);
  });

  test("every end of a segment has its one MTU: bridges, tunnels, routers", () => {
    const plan = records(lab.sh("cat state/plans/under.plan").stdout);
    const mtus = Object.fromEntries(plan.filter((r) => r.kind === "segment").map((s) => [s.id, s.mtu]));
    const sorted = Object.entries(mtus).filter(([id]) => !id.startsWith("lan"));
    expect(sorted.map(([, mtu]) => mtu).sort()).toEqual([1230, 1230, 1350, 1450]);
    const switches = records(lab.sh("mt-tree exec 'tun[1-4]' -- mt-vnet ls").stdout).flatMap((r) =>
      records(String(r.stdout)),
    );
    expect(switches).toHaveLength(12);
    for (const s of switches) expect(s.mtu).toBe(mtus[s.id]);
    for (const router of plan.filter((r) => r.kind === "router"))
      for (const [n, nic] of (router.interfaces as { segment: string }[]).entries()) {
        const shown = lab.sh(`ip -n mt:${router.host}:under:${router.id} -o link show eth${n}`).stdout;
        expect(shown).toContain(`mtu ${mtus[nic.segment]} `);
      }
  });

  test("a host whose network drops large packets is told, with the segments that cross it", () => {
    // The hosts' own interfaces do not show it, as where a switch or a tunnel on the way carries less.
    expect(lab.inNetwork("ip link set p1 mtu 1300").code).toBe(0);
    const check = lab.sh("mt-launch check under");
    expect(check.code).toBe(1);
    const verdict = verdictOf(check.stdout);
    expect(verdict).toMatchObject({ converged: 4, ready: 8, pairs_tried: 24, pairs_reached: 24 });
    expect(verdict.pairs_full_sized).toBeLessThan(24);
    expect((verdict.error as { message: string }).message).toMatch(
      /pings get through only while they are small: look at segment r\d-r\d with its MTU of 1[34]50 between/,
    );
    expect(lab.inNetwork("ip link set p1 mtu 1500").code).toBe(0);
    expect(lab.sh("mt-launch check under").code).toBe(0);
    expect(lab.sh("mt-launch down under").code).toBe(0);
  });

  test("one LAN over two hosts: guests have its MTU, a packet that fills it arrives", () => {
    const plan = [
      { kind: "experiment", id: "lan", version: 1, seed: 1 },
      { kind: "segment", id: "lan", prefix: "10.7.0.0/24" },
      ...["tun1", "tun2"].map((host, i) => ({
        kind: "guest",
        id: `g${i}`,
        host,
        image: "tux",
        cores: 1,
        mem_mib: 128,
        interfaces: [{ segment: "lan", ip: `10.7.0.${10 + i}/24` }],
      })),
    ];
    const lines = plan.map((r) => JSON.stringify(r)).join("\n");
    expect(lab.sh(`{ echo '${lines}'; mt-image build tux --missing; } >lan.jsonl`).code).toBe(0);
    const up = lab.sh("mt-launch up lan.jsonl");
    expect(up.stderr).not.toMatch(/Cannot/);
    expect(verdictOf(up.stdout)).toMatchObject({ ready: 2, pairs_reached: 2, pairs_full_sized: 2 });
    const guest = (host: string, id: string, ...words: string[]) =>
      lab.sh(`mt-tree exec ${host} -- mt-boot exec ${id} -- ${words.join(" ")}`);
    expect(guest("tun1", "g0", "cat", "/sys/class/net/eth0/mtu").stdout).toContain("1450");
    expect(guest("tun2", "g1", "ping -c 1 -W 10 -s 1422 10.7.0.10").code).toBe(0);
    expect(lab.sh("mt-launch down lan").code).toBe(0);
  });
});
