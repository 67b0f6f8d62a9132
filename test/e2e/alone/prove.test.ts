/**
 * Hosts with a firewall, a closed port, a network that drops large packets: found before a launch by real frames
 * over real bridges and tunnels, reported on the right host with what mends it; and that is tried.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lab, type Rec, records } from "../lab.ts";

/** Docker's: the policy of the chain for forwarded packets is to drop them. */
const FORWARD_DROP =
  "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }";
const CLOSED =
  "add table inet host; add chain inet host input { type filter hook input priority 0; policy accept; }; add rule inet host input udp dport 20000-29999 drop";

describe.skipIf(process.getuid?.() !== 0)("hosts as bad as real ones (needs root)", () => {
  let lab: Lab;
  beforeAll(() => {
    lab = new Lab();
    lab.image();
    expect(lab.sh("mt-status snapshot >before && mt-tree up 'tpv[1-4]' --via local >hosts").code).toBe(0);
  });
  afterAll(() => {
    lab?.sh("mt-tree exec @all -- mt-vnet down --experiment probe");
    lab?.remove();
  });

  const nft = (host: string, rules: string) => {
    const done = lab.sh(`ip netns exec mt-${host} nft '${rules}'`);
    expect([done.code, done.stderr]).toEqual([0, ""]);
  };
  const prove = () => {
    const line =
      "mt-topo probe hosts | mt-tree map -- mt-vnet up | mt-tree map -- mt-vnet prove --timeout 2 >proven; echo $?";
    const code = Number(lab.sh(line).stdout);
    const hosts = records(lab.sh("cat proven").stdout).filter((r) => r.kind === "host");
    const of = (id: string) =>
      hosts.find((h) => h.id === id) as Rec & { error?: { message: string; hint: string } };
    return { code, of, failed: hosts.flatMap((h) => (h.state === "failed" ? [h.id] : [])).sort() };
  };

  test("good hosts pass, each heard by two others", () => {
    const good = prove();
    expect([good.code, good.failed]).toEqual([0, []]);
    expect(good.of("tpv1").frames).toBe("1450 bytes to tpv2, tpv4");
    const plan = records(lab.sh("mt-topo probe hosts").stdout);
    const spanning = plan.filter((r) => r.kind === "segment" && (r.hosts as string[]).length > 1);
    // As many tunnels as hosts, not as pairs of hosts.
    expect(spanning).toHaveLength(4);
  });

  test("a firewall that drops what bridges forward is named, and each remedy mends it", () => {
    nft("tpv2", FORWARD_DROP);
    const bad = prove();
    expect(bad.code).toBe(1);
    expect(bad.of("tpv2").error?.message).toMatch(
      /bridge of tpv2: its firewall drops .*bridge-nf-call-iptables is 1/,
    );
    expect(bad.of("tpv2").error?.hint).toMatch(
      /sysctl -w net\.bridge\.bridge-nf-call-iptables=0.*iptables -I FORWARD/,
    );
    expect(bad.of("tpv1").error?.message).toContain("Cannot reach tpv2 from tpv1 through a tunnel");
    expect(bad.failed).toEqual(["tpv1", "tpv2", "tpv3"]);
    const set = "echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables";
    expect(lab.sh(`ip netns exec mt-tpv2 sh -c '${set}'`).code).toBe(0);
    expect(prove().failed).toEqual([]);
    expect(lab.sh(`ip netns exec mt-tpv2 sh -c '${set.replace("0", "1")}'`).code).toBe(0);
    nft("tpv2", "flush ruleset");
    nft(
      "tpv2",
      "add table bridge b; add chain bridge b f { type filter hook forward priority 0; policy drop; }",
    );
    // Either may be reported here: the kernel does not say which of them dropped a frame.
    expect(prove().of("tpv2").error?.hint).toMatch(/nft list ruleset .* family bridge/);
    nft("tpv2", "flush ruleset");
    expect(prove().failed).toEqual([]);
  });

  test("closed ports of tunnels are named on both sides, and which way is closed", () => {
    nft("tpv3", CLOSED);
    const bad = prove();
    expect(bad.failed).toEqual(["tpv2", "tpv3", "tpv4"]);
    expect(bad.of("tpv3").error?.message).toMatch(/from tpv3 through a tunnel: nothing comes from there$/);
    expect(bad.of("tpv2").error?.message).toMatch(
      /reach tpv3 from tpv2 .*: frames come from there, and none of ours is answered$/,
    );
    expect(bad.of("tpv2").error?.hint).toMatch(/UDP ports 20000 to 29999 .*--dport 20000:29999 -j ACCEPT/);
    nft("tpv3", "flush ruleset");
  });

  test("a network that drops large packets is named with what it takes, and the remedy mends it", () => {
    expect(lab.inNetwork("ip link set p3 mtu 1400").code).toBe(0);
    const bad = prove();
    expect(bad.failed).toEqual(["tpv1", "tpv3", "tpv4"]);
    expect(bad.of("tpv4").error?.message).toMatch(
      /packets of 1450 bytes from tpv4 to tpv\d: up to 135\d get through.* 140\d/,
    );
    expect(bad.of("tpv4").error?.hint).toMatch(/mtu 140\d/);
    // What the hint says, on the hosts that it names.
    expect(lab.sh("mt-tree up --mtu 'tpv[1,3-4]=1400' >hosts").code).toBe(0);
    const mended = prove();
    expect([mended.failed, mended.of("tpv4").frames]).toEqual([[], "1350 bytes to tpv1, tpv3"]);
  });

  test("mt-launch check says it before a launch, and takes down what it made, and what a killed one had made", () => {
    expect(lab.sh("mt-tree exec @all -- mt-vnet down --experiment probe").code).toBe(0);
    expect(lab.sh("mt-topo probe hosts --id mt-probe | mt-tree map -- mt-vnet up >/dev/null").code).toBe(0);
    expect(lab.sh("ip netns list | grep -c ':mt-probe:'").stdout.trim()).toBe("8");
    nft("tpv1", FORWARD_DROP);
    const check = lab.sh("mt-launch check", 280);
    expect(check.code).toBe(69);
    expect(check.stdout).toMatch(
      /^tpv1: Cannot pass frames over a bridge of tpv1.*\n {2}mend: on tpv1: sysctl/m,
    );
    expect(check.stdout).toMatch(/^tpv3 .* 1350 bytes to tpv2, tpv4/m);
    expect(lab.sh("ip netns list | grep -c ':mt-probe:'").stdout.trim()).toBe("0");
    expect(lab.sh("mt-tree down").code).toBe(0);
    expect(records(lab.sh("mt-status left --since before </dev/null").stdout)[0]).toMatchObject({
      left_behind: 0,
    });
  });
});
