/**
 * More guests than a host has room for, on the compiled tools: what did not fit is placed on another host, the
 * network follows it, and the second plan alone takes all of it down.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseRange, rangeCount } from "../../../shared/nodeset/ranges.ts";
import { Lab, records } from "../lab.ts";

/** Reserved for a paused clone: a quarter of its memory, and 16 MiB for its QEMU. */
const MEM_MIB = 2048;
const LAID_BY_MIB = MEM_MIB / 4 + 16;

describe.skipIf(process.getuid?.() !== 0)("a host that is full (needs root)", () => {
  let lab: Lab;
  beforeAll(() => {
    lab = new Lab();
    lab.image();
    expect(lab.sh("mt-tree up 'tov[1-2]' --via local >hosts").code).toBe(0);
  });
  afterAll(() => {
    lab?.sh("mt-tree exec 'tov[1-2]' -- mt-boot down --experiment over");
    lab?.sh("mt-tree exec 'tov[1-2]' -- mt-vnet down --experiment over");
    lab?.remove();
  });
  const guests = (stdout: string) =>
    records(stdout)
      .filter((r) => r.kind === "guest")
      .map((g) => [g.id, g.host, g.state]);

  test("mt-boot says what did not fit, mt-topo place --overflow moves it, and up again all are there", () => {
    const crowd = `mt-topo gen ring --routers 1 --id over | mt-topo guests 8 --image tux --mem ${MEM_MIB}`;
    expect(lab.sh(`grep tov1 hosts >one; ${crowd} | mt-topo place one >plan`).code).toBe(0);
    const ready = lab.sh("mt-push <plan | mt-tree map -- mt-vnet up >laid");
    expect([ready.code, ready.stderr]).toEqual([0, ""]);
    // The template first, so that its memory is not counted as the guests'. Then room for three guests and a half.
    expect(lab.sh("sed 's/g\\[0-7\\]/g0/' laid | mt-tree map -- mt-boot up --paused >/dev/null").code).toBe(
      0,
    );
    const free = Number(/MemAvailable:\s+(\d+)/.exec(readFileSync("/proc/meminfo", "utf8"))![1]) / 1024;
    const reserve = Math.floor(free - 3.5 * LAID_BY_MIB);
    const up = lab.sh(`mt-tree map -- mt-boot up --paused --until-full --reserve-mib ${reserve} <laid >out`);
    expect(up.code).toBe(0);
    const [paused, ...planned] = guests(readFileSync(`${lab.dir}/out`, "utf8"));
    const fitted = rangeCount(parseRange(String(paused![0]))._unsafeUnwrap());
    // Three, where nothing else runs on the machine.
    expect(fitted).toBeGreaterThan(0);
    expect(fitted).toBeLessThan(8);
    expect([paused!.slice(1), ...planned.map((g) => g.slice(1))]).toEqual([
      ["tov1", "paused"],
      ...planned.map(() => ["tov1", "planned"]),
    ]);

    expect(lab.sh("mt-topo place --overflow hosts <out >wider").code).toBe(0);
    const again = lab.sh(
      "mt-push <wider | mt-tree map -- mt-vnet up | mt-tree map -- mt-boot up --paused --until-full | mt-tree map -- mt-boot resume",
    );
    expect([again.code, again.stderr]).toEqual([0, ""]);
    // In order a host, not over hosts.
    const there = guests(again.stdout).sort((a, b) => String(a[1]).localeCompare(String(b[1])));
    expect(there).toEqual([
      [fitted === 1 ? "g0" : `g[0-${fitted - 1}]`, "tov1", "ready"],
      [fitted === 7 ? "g7" : `g[${fitted}-7]`, "tov2", "ready"],
    ]);
    const ping = lab.sh("mt-tree exec tov1 -- mt-boot exec g0 -- ping -c 1 -W 10 10.1.0.17");
    expect(ping.stdout).toContain("1 packets received");
    expect(ping.code).toBe(0);
  });

  test("no host is left: it says so, and writes nothing", () => {
    const none = lab.sh("mt-topo place --overflow one <out");
    expect([none.code, none.stdout]).toEqual([1, ""]);
    expect(none.stderr).toMatch(/Cannot place \d guests that found no room: no host is left, tov1 is full/);
  });

  test("the plan that it was moved to takes all of it down", () => {
    expect(lab.sh("mt-tree map -- mt-boot down <wider | mt-tree map -- mt-vnet down >/dev/null").code).toBe(
      0,
    );
    expect(
      lab
        .sh("ip netns exec mt-tov1 ip -o link")
        .stdout.trim()
        .split("\n")
        .map((l) => l.split(" ")[1]),
    ).toEqual(["lo:", expect.stringMatching(/^eth0/)]);
    // No supervisor waits for guests that were refused here.
    expect(lab.sh("ls -d run/hosts/tov[12]").stdout.trim().split("\n")).toHaveLength(2);
    expect(lab.sh("find run/hosts -path '*/experiments/over*'").stdout).toBe("");
    expect(lab.sh("pgrep -f 'supervise --host tov[12] over'").stdout).toBe("");
    expect([...lab.guests().keys(), ...lab.clones("over")]).toEqual([]);
  });
});
