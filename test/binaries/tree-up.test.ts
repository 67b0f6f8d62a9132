/**
 * Whatever state a tree is in, `mt-tree up` mends it, or says precisely why it cannot: each state is made on real
 * agents, seen as `status` shows it, and mended by one `up`.
 */
import { chmodSync, existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lab, type Rec, records, until } from "../e2e/lab.ts";

const root = process.getuid?.() === 0;
const HOSTS = ["tum1", "tum2", "tum3"];
const messageOf = (r: Rec | undefined) => (r?.error as { message: string } | undefined)?.message;
const hintOf = (r: Rec | undefined) => (r?.error as { hint: string } | undefined)?.hint;

describe.skipIf(!root)("mt-tree up on local hosts in every state (needs root)", { timeout: 120_000 }, () => {
  let lab: Lab;
  const path = (name: string) => join(lab.dir, "run", name);
  const dirOf = (node: string) => path(node === "head" ? "tree" : `hosts/${node}/tree`);
  const configOf = (node: string) => join(dirOf(node), node === "head" ? "head.json" : "agent.json");
  /** The pid of the process with this configuration, as the kernel shows it: its pid file may be gone. */
  const pidsOf = (node: string) =>
    lab
      .sh(`pgrep -f -- '--config ${configOf(node)}$'`)
      .stdout.split("\n")
      .filter(Boolean)
      .map(Number);
  const pidOf = (node: string) => pidsOf(node)[0]!;
  const kill = (node: string, signal: NodeJS.Signals) => process.kill(pidOf(node), signal);
  const status = () => records(lab.sh("mt-tree status --records").stdout);
  const stateOf = (host: string) => status().find((r) => r.id === host)?.state;
  const missing = (host: string) => until(`${host} missing`, () => stateOf(host) === "failed", 20);
  let net = "";

  const mend = (words = "") => {
    const done = lab.sh(`mt-tree up ${words}`, 100);
    return { ...done, hosts: done.stdout === "" ? [] : records(done.stdout) };
  };
  /** All is up, one agent a host and one head, and commands run there. */
  function whole(): void {
    for (const node of ["head", ...HOSTS]) expect([node, pidsOf(node).length]).toEqual([node, 1]);
    expect(status().map((r) => [r.id, r.state])).toEqual(HOSTS.map((h) => [h, "up"]));
    const ran = records(lab.sh("mt-tree exec @all -- sh -c 'echo $MT_HOST'").stdout);
    expect(ran.map((r) => r.stdout).sort()).toEqual(HOSTS.map((h) => `${h}\n`));
  }
  function mended(words?: string): string {
    const { code, stderr, hosts } = mend(words);
    expect([code, hosts.map((r) => [r.id, r.state, messageOf(r)]), code === 0 ? "" : stderr]).toEqual([
      0,
      HOSTS.map((h) => [h, "up", undefined]),
      "",
    ]);
    whole();
    return stderr;
  }

  beforeAll(() => {
    lab = new Lab();
    // A chain: the second stands under the first, the third under the second.
    expect(mend("'tum[1-3]' --fanout 1").code).toBe(0);
    const nets = lab.sh("ip netns list").stdout.match(/^mt-net-\w+/gm) ?? [];
    net = nets.find((n) => lab.sh(`ip -n ${n} -o link show type veth`).stdout.includes("mt-tum1"))!;
  });
  afterAll(() => {
    lab?.remove();
  });

  test("an agent that was killed, and all of it at once", async () => {
    kill("tum2", "SIGKILL");
    await missing("tum2");
    mended();
    for (const node of ["head", ...HOSTS]) kill(node, "SIGKILL");
    mended();
  });

  test("an agent that is frozen is replaced, and what it had running is ended", async () => {
    const running = lab.start("mt-tree", ["exec", "tum1", "--", "sleep", "1007"]);
    await until("the command", () => lab.sh("pgrep -x -f 'sleep 1007'").code === 0);
    const frozen = pidOf("tum1");
    kill("tum1", "SIGSTOP");
    await missing("tum1");
    expect((await running.done).code).toBe(1);
    expect(stateOf("tum1")).toBe("failed");
    mended();
    expect(pidOf("tum1")).not.toBe(frozen);
    expect(lab.sh("pgrep -x -f 'sleep 1007'").code).toBe(1);
  });

  test("a head that is frozen is replaced; its agents come to the new one", () => {
    const agents = HOSTS.map(pidOf);
    const frozen = pidOf("head");
    kill("head", "SIGSTOP");
    const told = lab.sh("mt-tree status");
    expect([told.code, told.stdout]).toEqual([1, ""]);
    expect(told.stderr).toMatch(/^mt-tree: Cannot list the hosts: the head/);
    mended();
    expect(pidOf("head")).not.toBe(frozen);
    expect(HOSTS.map(pidOf)).toEqual(agents);
  });

  test("a head that was killed, one without its socket, one whose socket leads nowhere", () => {
    const agents = HOSTS.map(pidOf);
    kill("head", "SIGKILL");
    mended();
    rmSync(path("tree/head.sock"));
    mended();
    rmSync(path("tree/head.sock"));
    writeFileSync(path("tree/head.sock"), "");
    mended();
    expect(HOSTS.map(pidOf)).toEqual(agents);
  });

  test("an agent whose MT_RUN somebody took away: it serves; killed or frozen after that, up finds and replaces it", async () => {
    rmSync(path("hosts/tum3"), { recursive: true });
    mended();
    const agent = pidOf("tum3");
    kill("tum3", "SIGSTOP");
    rmSync(path("hosts/tum3"), { recursive: true });
    await missing("tum3");
    mended();
    expect(pidOf("tum3")).not.toBe(agent);
    rmSync(path("hosts/tum3"), { recursive: true });
    kill("tum3", "SIGKILL");
    mended();
  });

  test("its network: a link set down on either side, an address gone, a port, a host's namespace, the cluster's", async () => {
    const breaks: [string, string][] = [
      [`ip -n mt-tum1 link set eth0 down`, "tum1"],
      [`ip -n ${net} link set p1 down`, "tum2"],
      [`ip -n mt-tum3 addr flush dev eth0`, "tum3"],
      [`ip -n ${net} link del p0`, "tum1"],
      [`ip -n ${net} link set p2 nomaster`, "tum3"],
    ];
    for (const [line, host] of breaks) {
      expect([line, lab.sh(line).code]).toEqual([line, 0]);
      await missing(host);
      mended();
    }
    // A process keeps its namespace alive after its name is gone.
    lab.sh("ip netns del mt-tum2");
    mended();
    expect(lab.sh("ip netns pids mt-tum2").stdout).toContain(String(pidOf("tum2")));
    lab.sh(`ip netns del ${net}`);
    mended();
    expect(lab.sh(`ip netns pids ${net}`).stdout).toContain(String(pidOf("head")));
  });

  test("its files: half a tree file, none, no directory of the tree, no MT_RUN at all", () => {
    truncateSync(path("tree/tree.json"), Math.floor(statSync(path("tree/tree.json")).size / 2));
    expect(status()).toHaveLength(3);
    expect(mended()).toMatch(/tree's file is damaged: made again from 3 hosts that are here/);
    truncateSync(path("tree/tree.json"), 0);
    mended();
    rmSync(path("tree/tree.json"));
    expect(mended()).toMatch(/tree's file is gone: made again/);
    rmSync(path("tree"), { recursive: true });
    mended();
    rmSync(path(""), { recursive: true });
    mended("'tum[1-3]'");
    // Now it is a tree as any other.
    kill("head", "SIGKILL");
    expect(mended()).toBe("");
  });

  test("what it cannot mend it names: a port that somebody else has, on a host and on the head's side", async () => {
    const listen = async (ns: string, node: string) => {
      kill(node, "SIGKILL");
      await until("its end", () => pidsOf(node).length === 0);
      const words = [
        `--net=/run/netns/${ns}`,
        "--",
        process.execPath,
        "-e",
        'require("net").createServer(() => {}).listen(7420, "0.0.0.0", () => console.log("there"))',
      ];
      const { child } = lab.start("/usr/bin/nsenter", words);
      await new Promise((r) => child.stdout!.once("data", r));
      return child;
    };
    const onHost = await listen("mt-tum2", "tum2");
    try {
      const told = mend();
      expect([told.code, told.hosts.map((r) => r.state)]).toEqual([1, ["up", "failed", "up"]]);
      expect(messageOf(told.hosts[1])).toBe(
        "Cannot join host tum2: its agent ended at once: Cannot join host tum2: somebody listens on 10.254.0.2 port 7420 already",
      );
      expect(hintOf(told.hosts[1])).toBe(`what it said is in ${dirOf("tum2")}/node.log`);
    } finally {
      onHost.kill("SIGKILL");
    }
    await until("the port's end", () => onHost.exitCode !== null || onHost.signalCode !== null);
    mended();
    const onHead = await listen(net, "head");
    try {
      const told = mend();
      expect([told.code, told.stdout]).toEqual([1, ""]);
      expect(told.stderr).toMatch(
        /its head ended at once: .*somebody listens on 10\.254\.255\.254 port 7420 already/,
      );
    } finally {
      onHead.kill("SIGKILL");
    }
    await until("the port's end", () => onHead.exitCode !== null || onHead.signalCode !== null);
    mended();
  });

  test("an agent that the head does not let in says so in its log, not all the time, and up quotes it", async () => {
    // Its configuration has another port for the head, where nothing listens.
    const config = readFileSync(configOf("tum1"), "utf8");
    const wrong = JSON.parse(config);
    wrong.ancestors[0].port = 7999;
    kill("tum1", "SIGKILL");
    await until("its end", () => pidsOf("tum1").length === 0);
    rmSync(join(dirOf("tum1"), "node.log"));
    writeFileSync(configOf("tum1"), JSON.stringify(wrong));
    lab.sh(
      `MT_HOST=tum1 setsid nsenter --net=/run/netns/mt-tum1 mt-tree agent --config ${configOf("tum1")} >${dirOf("tum1")}/node.log 2>&1 </dev/null &`,
    );
    const log = () =>
      existsSync(join(dirOf("tum1"), "node.log"))
        ? readFileSync(join(dirOf("tum1"), "node.log"), "utf8")
        : "";
    await until("its reason", () => log().includes("Cannot join (head)"));
    // It goes on trying four times a second.
    await new Promise((r) => setTimeout(r, 1_500));
    expect(log()).toBe("mt-tree: Cannot join (head) at 10.254.255.254:7999 as tum1: ECONNREFUSED\n");
    mended();
    expect(log()).not.toMatch(/7999[\s\S]*7999/);
  });

  test("the tree of another user is told as such", () => {
    // As the user that may not read it.
    for (const dir of [lab.dir, path(""), path("tree")]) chmodSync(dir, 0o755);
    const told = lab.sh(
      `setpriv --reuid=65534 --regid=65534 --clear-groups env MT_STATE=/nonexistent ${process.env.DIST ?? ""}mt-tree status`,
    );
    for (const dir of [lab.dir, path(""), path("tree")]) chmodSync(dir, 0o700);
    expect(told.code).toBe(77);
    mended();
  });

  test("down takes away what it can find, whatever became of the files", () => {
    truncateSync(path("tree/tree.json"), 100);
    expect(lab.sh("mt-tree down")).toMatchObject({ code: 0, stderr: "" });
    for (const node of ["head", ...HOSTS]) expect(pidsOf(node)).toEqual([]);
    expect(mend("'tum[1-3]'").code).toBe(0);
    rmSync(path(""), { recursive: true });
    expect(lab.sh("mt-tree down")).toMatchObject({ code: 0, stderr: "" });
    for (const node of ["head", ...HOSTS]) expect(pidsOf(node)).toEqual([]);
    expect(lab.sh("ip netns list").stdout).not.toMatch(/mt-tum/);
    expect(existsSync(path(""))).toBe(false);
  });
});
