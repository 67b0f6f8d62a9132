/**
 * mt-tree --via ssh on hosts with real sshd (test/testbed), with the compiled binary: it goes down the tree from
 * host to host, agents outlive ssh, a newer release takes the place of an older one, hosts that cannot be used say
 * why while the others go on, and nothing is left behind.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Done, type Rec, records, until } from "./lab.ts";

const root = resolve(import.meta.dirname, "../..");
const TESTBED = "mtss";
const BUN = join(root, ".build/bun/node_modules/.bin/bun");

describe.skipIf(process.getuid?.() !== 0)("mt-tree --via ssh (needs root)", () => {
  const dir = mkdtempSync(join(tmpdir(), "mt-ssh-"));
  /** Two releases, told apart by their commit. */
  const [old, now] = [join(dir, "old"), join(dir, "now")] as const;
  const children: ChildProcess[] = [];
  const env = { ...process.env, TESTBED, MT_PROGRESS: undefined };

  function testbed(words: string[], timeout_s = 90): Done {
    const done = spawnSync(join(root, "test/testbed"), words, {
      env,
      encoding: "utf8",
      timeout: timeout_s * 1000,
      maxBuffer: 64 * 1024 * 1024,
    });
    return { code: done.status, stdout: done.stdout, stderr: done.stderr };
  }
  /** A shell line on a host; host 0 is where the head is. */
  const on = (host: number, line: string, release = now) =>
    testbed(["on", String(host), "env", `PATH=${release}:${process.env.PATH}`, "bash", "-c", line]);
  const head = (line: string, release = now) => on(0, line, release);
  /** Puts this release on a host's PATH. */
  const onPath = (host: number) =>
    on(host, `mount -t tmpfs tmpfs /usr/local/bin; ln -s ${now}/mt ${now}/mt-tree /usr/local/bin`);
  const hosts = (done: Done) => records(done.stdout).filter((r) => r.kind === "host");
  const states = (done: Done) => hosts(done).map((r) => [r.id, r.state]);
  const name = (k: number) => `${TESTBED}${k}`;
  const up = (...ks: number[]) => ks.map((k) => [name(k), "up"]);
  const errorOf = (done: Done, id: string) =>
    hosts(done).find((r) => r.id === id)?.error as { code: string; message: string; hint: string };
  /** The output of a command on each host, in order of their names. */
  function exec(set: string, line: string, release = now): string[] {
    const done = head(`mt-tree exec '${set}' -- sh -c '${line}'`, release);
    expect(done.stderr).toBe("");
    const exits = records(done.stdout).sort((a, b) => String(a.host).localeCompare(String(b.host)));
    return exits.map((r) => String(r.stdout).trim());
  }
  /** Command lines of agents on the hosts of this testbed. */
  function agents(): string[] {
    const found: string[] = [];
    for (const pid of readdirSync("/proc").filter((p) => /^\d+$/.test(p))) {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        if (
          words.includes("agent") &&
          readFileSync(`/proc/${pid}/environ`, "utf8").includes(`MT_HOST=${TESTBED}`)
        )
          found.push(words.join(" "));
      } catch {}
    }
    return found;
  }

  beforeAll(() => {
    for (const [to, commit] of [
      [old, "older"],
      [now, "newer"],
    ] as const) {
      mkdirSync(to);
      const words =
        "build --compile --minify --bytecode --format=esm --external better-sqlite3 --no-compile-autoload-dotenv --no-compile-autoload-bunfig";
      const build = [...words.split(" "), "--define", `MT_COMMIT="${commit}"`, "tools/mt/main.ts"];
      execFileSync(BUN, [...build, "--outfile", join(to, "mt")], { cwd: root, stdio: "ignore" });
      execFileSync(join(to, "mt"), ["--links"]);
    }
    testbed(["down"]);
    expect(testbed(["up", "7"])).toEqual({ code: 0, stdout: "", stderr: "" });
  });
  afterAll(() => {
    for (const child of children) child.kill("SIGKILL");
    testbed(["down"]);
    rmSync(dir, { recursive: true, force: true });
    expect(spawnSync("ip", ["netns", "list"], { encoding: "utf8" }).stdout).not.toMatch(/^mtss/m);
  });

  test("four bare hosts: two get the binary from here, two from their parents; every one has it whole", () => {
    const sent = () => Number(head("cat /sys/class/net/br0/statistics/tx_bytes").stdout);
    const before = sent();
    const done = head(`mt-tree up '${TESTBED}[1-4]' --via ssh --fanout 2 --progress`, old);
    expect(done.stderr).toMatch(/mt came to hosts: 2 from here, 2 from their parents$/m);
    expect([done.code, states(done)]).toEqual([0, up(1, 2, 3, 4)]);
    for (const host of hosts(done)) {
      expect(host.cores).toBeGreaterThan(0);
      expect(host.mem_mib).toBeGreaterThan(100);
    }
    const file = readFileSync(join(old, "mt"));
    // This machine sent no more than two binaries, compressed.
    expect(sent() - before).toBeLessThan(1.6 * file.length);
    const digest = createHash("sha256").update(file).digest("hex");
    const path = `.cache/megatux/${digest.slice(0, 16)}`;
    expect(exec(`${TESTBED}[1-4]`, `cd; sha256sum ${path}/mt; stat -c %a ${path}`, old)).toEqual(
      Array(4).fill(`${digest}  ${path}/mt\n700`),
    );
    expect(exec(`${TESTBED}[1-4]`, "cd /; ls -A ~/.cache/megatux/*", old)[3]).not.toContain(".new");
    expect(exec(`${TESTBED}[1-4]`, "echo $MT_HOST $MT_RUN; mt-boot --version", old)[2]).toBe(
      `${TESTBED}3 /run/megatux\nmt-boot 0.1.0 (schema 1, commit older)`,
    );
    const parents = new Map(hosts(head("mt-tree status", old)).map((r) => [r.id, r.parent]));
    expect([1, 2, 3, 4].map((k) => parents.get(name(k)))).toEqual(["(head)", "(head)", name(1), name(1)]);
  });

  test("agents need no ssh; their keys are for nobody else, and on no command line", () => {
    const seen = exec(`${TESTBED}[1-4]`, 'cd "$MT_AGENT_DIR"; stat -c %a . agent.json; cat agent.json', old);
    for (const text of seen) {
      expect(text).toMatch(/^700\n600\n\{/);
      expect(text).toContain("PRIVATE KEY");
    }
    expect(agents()).toHaveLength(4);
    for (const line of agents()) expect(line).not.toMatch(/PRIVATE|BEGIN/);
    expect(head(`ps -eo args | grep -c '[s]sh .*${TESTBED}'`).stdout.trim()).toBe("0");
  });

  test("a second up does nothing; a killed agent is brought back; the tree grows, by hosts that were there", () => {
    const again = head(`mt-tree up '${TESTBED}[1-4]' --via ssh --fanout 2 --progress`, old);
    expect([again.code, again.stderr, states(again)]).toEqual([0, "", up(1, 2, 3, 4)]);
    on(3, 'kill -9 "$(cat /run/megatux/agents/*/agent.pid)"');
    const healed = head("mt-tree up --progress", old);
    expect([healed.code, healed.stderr, states(healed)]).toEqual([0, "", up(1, 2, 3, 4)]);
    // One of the new ones cannot fetch it: it comes from here.
    on(6, "mount --bind /bin/false $(command -v curl)");
    const grown = head(`mt-tree up '${TESTBED}[5-6]' --progress`, old);
    expect(grown.stderr).toMatch(/1 from here, 1 from their parents, 1 could not fetch it there$/m);
    expect([grown.code, states(grown)]).toEqual([0, up(1, 2, 3, 4, 5, 6)]);
    expect(exec(`${TESTBED}[1-6]`, "hostname", old)).toEqual([1, 2, 3, 4, 5, 6].map(name));
  });

  test("another release: told per host or by the head, and with --upgrade all is started anew", () => {
    const told = head("mt-tree up");
    // A release that speaks another protocol does not answer: it is left alone all the same.
    const mute = head(
      "cd /run/megatux/tree; mv head.sock s; mt-tree up; code=$?; mv s head.sock; exit $code",
    );
    expect([mute.code, mute.stderr]).toEqual([65, told.stderr]);
    expect([told.code, told.stdout]).toEqual([65, ""]);
    expect(told.stderr).toMatch(/head is of another release.*commit older.*\n {2}hint: mt-tree up --upgrade/);
    const done = head("mt-tree up --upgrade --progress");
    expect(done.stderr).toMatch(/from their parents/);
    expect([done.code, states(done)]).toEqual([0, up(1, 2, 3, 4, 5, 6)]);
    expect(new Set(exec(`${TESTBED}[1-6]`, "mt-tree --version"))).toEqual(
      new Set(["mt-tree 0.1.0 (schema 1, commit newer)"]),
    );
    expect(agents()).toHaveLength(6);
    // An agent that an older up left: its host says so, the others are there.
    const tree = "/run/megatux/tree/tree.json";
    head(`sed -i 's/"id":"${name(2)}",\\([^}]*\\)commit newer/"id":"${name(2)}",\\1commit older/' ${tree}`);
    const one = head("mt-tree up");
    expect([one.code, hosts(one).filter((r) => r.state === "up")]).toMatchObject([1, { length: 5 }]);
    expect(errorOf(one, name(2))).toMatchObject({ code: "data", hint: expect.stringContaining("--upgrade") });
    expect(head("mt-tree up --upgrade").code).toBe(0);
  });

  test("two trees on one cluster do not meet; on one port the second is told", () => {
    const other = "MT_RUN=/run/second";
    const busy = head(`${other} mt-tree up ${name(1)} --via ssh`);
    expect([busy.code, busy.stdout]).toEqual([75, ""]);
    expect(busy.stderr).toMatch(/port 7420 of this machine is in use\n {2}hint: another tree is up/);
    // The same from another machine: there it is the host's port.
    const there = on(7, `mt-tree up ${name(1)} --via ssh --timeout 9`);
    expect(there.code).toBe(1);
    expect(errorOf(there, name(1)).message).toBe(
      `Cannot start the agent on ${name(1)}: port 7420 is in use there`,
    );
    expect(on(7, "mt-tree down").code).toBe(0);

    const second = head(`${other} mt-tree up '${TESTBED}[1-2]' --via ssh --port 7421`);
    expect([second.code, states(second)]).toEqual([0, up(1, 2)]);
    expect(agents()).toHaveLength(8);
    expect(head(`${other} mt-tree exec ${name(2)} --human -- hostname`).stdout).toContain(name(2));
    expect(head(`${other} mt-tree down`)).toMatchObject({ code: 0, stderr: "" });
    expect(agents()).toHaveLength(6);
    const status = head("mt-tree status");
    expect([status.stderr, states(status)]).toEqual(["", up(1, 2, 3, 4, 5, 6)]);
  });

  test("down: through the tree, by ssh where that has lost a host, after a crash of the head, twice", async () => {
    on(4, 'kill -STOP "$(cat /run/megatux/agents/*/agent.pid)"');
    head("kill -9 $(cat /run/megatux/tree/head.pid)");
    testbed(["cut", "5"]);
    const left = head("mt-tree down");
    expect(left.code).toBe(1);
    expect(left.stderr).toMatch(new RegExp(`Cannot end the agents on ${name(5)}: they could not be reached`));
    expect(head("mt-tree down")).toEqual({ code: 0, stdout: "", stderr: "" });
    testbed(["heal", "5"]);
    expect(agents()).toHaveLength(1);
    for (const k of [1, 2, 3, 4, 6]) expect(on(k, "ls -A /run/megatux").stderr).toMatch(/No such file/);
    on(5, 'kill "$(cat /run/megatux/agents/*/agent.pid)"');

    expect(head(`mt-tree up '${TESTBED}[1-4]' --via ssh --fanout 2`).code).toBe(0);
    expect(head("mt-tree down --purge")).toEqual({ code: 0, stdout: "", stderr: "" });
    await until("the end of all agents", () => agents().length === 0, 5);
    for (const k of [1, 2, 3, 4])
      await until(
        "no files",
        () => /No such/.test(on(k, "ls -A /run/megatux /root/.cache/megatux").stderr),
        5,
      );
    expect(on(0, "ls -A /run/megatux").stderr).toMatch(/No such file/);
  });

  test("two hosts with one home do not spoil each other's file; one with this release on its PATH is given none", () => {
    mkdirSync(join(dir, "home"));
    for (const k of [1, 2]) on(k, `mkdir -p ~/.cache; mount --bind ${dir}/home ~/.cache`);
    onPath(3);
    const done = head(`mt-tree up '${TESTBED}[1-3]' --via ssh --progress`);
    expect([done.code, states(done)]).toEqual([0, up(1, 2, 3)]);
    expect(done.stderr).toMatch(/: 2 from here, 0 from their parents$/m);
    const [sha, ...others] = readdirSync(join(dir, "home/megatux"));
    expect(others).toEqual([]);
    const files = readdirSync(join(dir, "home/megatux", sha!)).sort();
    expect(files).toEqual(readdirSync(now).sort());
    expect(exec(name(3), "command -v mt-tree; ls -A ~/.cache")).toEqual(["/usr/local/bin/mt-tree"]);
    expect(head("mt-tree down --purge").code).toBe(0);
    for (const k of [1, 2]) on(k, "umount ~/.cache");
    on(3, "umount /usr/local/bin");
  });

  test("what is not the agent is left alone, whatever the pid file says", async () => {
    expect(head(`mt-tree up ${name(1)} --via ssh`).code).toBe(0);
    const bystander = ["on", "1", "sh", "-c", "echo $$ >/run/bystander; exec sleep 100"];
    children.push(spawn(join(root, "test/testbed"), bystander, { env, stdio: "ignore" }));
    await until("the bystander", () => on(1, "test -s /run/bystander").code === 0, 10);
    const pid = on(1, "cat /run/bystander").stdout.trim();
    head("kill -9 $(cat /run/megatux/tree/head.pid)");
    on(1, `cd /run/megatux/agents/*/; kill -9 $(cat agent.pid); echo ${pid} >agent.pid`);
    expect(head("mt-tree down")).toMatchObject({ code: 0, stderr: "" });
    expect(on(1, `kill -0 ${pid}`).code).toBe(0);
  });

  test("the head's own machine may be a host; the head comes back after a crash, and its agents to it", async () => {
    for (const k of [0, 1]) onPath(k);
    const made = head(`mt-tree up '${TESTBED}[0-1],localhost' --via ssh --fanout 1`);
    expect(states(made)).toEqual([
      [name(0), "up"],
      [name(1), "up"],
      ["localhost", "failed"],
    ]);
    expect(errorOf(made, "localhost").message).toContain(`it is host ${name(0)} by another name`);
    const parent = () => hosts(head("mt-tree status")).find((r) => r.id === name(1))?.parent;
    expect(parent()).toBe(name(0));
    const before = agents().sort();
    head("kill -9 $(cat /run/megatux/tree/head.pid)");
    const healed = head("mt-tree up --progress");
    expect([healed.code, healed.stderr]).toEqual([0, ""]);
    expect(exec(`${TESTBED}[0-1]`, "echo $MT_HOST")).toEqual([name(0), name(1)]);
    expect(agents().sort()).toEqual(before);
    expect(head("mt-tree down")).toEqual({ code: 0, stdout: "", stderr: "" });
    await until("no files", () => /No such/.test(head("ls -A /run/megatux").stderr), 5);
    for (const k of [0, 1]) on(k, "umount /usr/local/bin");
  });

  test("a user without rights has the agent in a directory of its own, and takes nobody else's", () => {
    // On host 1: a user, and an sshd that lets it in.
    const key = "/run/key";
    on(
      1,
      `cp /etc/passwd /run/passwd; echo 'mtu:x:4242:4242::/run/mtu:/bin/sh' >>/run/passwd
      mount --bind /run/passwd /etc/passwd; install -d -o 4242 /run/mtu
      ssh-keygen -y -f ~/.ssh/id_ed25519 >${key}; grep -v AuthorizedKeys /tmp/testbed-${TESTBED}/sshd_config >/run/user_sshd
      echo 'AuthorizedKeysFile ${key}' >>/run/user_sshd
      /usr/sbin/sshd -p 2222 -f /run/user_sshd`,
    );
    writeFileSync(join(dir, "user"), `Host other\n  HostName ${name(1)}\n  Port 2222\n  User mtu\n`);
    const made = head(`mt-tree up other --via ssh --ssh 'ssh -F ${dir}/user'`);
    try {
      expect([made.code, states(made)]).toEqual([0, [["other", "up"]]]);
      expect(exec("other", "id -u; echo $MT_RUN; stat -c %a $MT_RUN/agents/*")).toEqual([
        "4242\n/tmp/run-4242/megatux\n700",
      ]);
      expect(head("mt-tree down").code).toBe(0);
      // A user who made that directory first gets nothing from it.
      rmSync("/tmp/run-4242", { recursive: true });
      mkdirSync("/tmp/run-4242");
      const refused = head(`mt-tree up other --via ssh --ssh 'ssh -F ${dir}/user'`);
      expect(errorOf(refused, "other")).toMatchObject({ code: "permission" });
      expect(errorOf(refused, "other").message).toMatch(/\/tmp\/run-4242 is another's$/);
      head("mt-tree down");
    } finally {
      rmSync("/tmp/run-4242", { recursive: true, force: true });
    }
  });

  test("--no-port: every link stays inside ssh, nobody listens, and what a profile prints is no frame", async () => {
    on(2, "echo 'echo welcome' >~/.bashrc");
    const listeners = (k: number) => on(k, "cat /proc/net/tcp* | grep ' 0A 0'").stdout.match(/:.{4} /g);
    const before = [0, 1, 2, 3].map(listeners);
    const made = head(`mt-tree up '${TESTBED}[1-3]' --via ssh --no-port`);
    expect([made.code, made.stderr, states(made)]).toEqual([0, "", up(1, 2, 3)]);
    expect([0, 1, 2, 3].map(listeners)).toEqual(before);
    for (const r of hosts(head("mt-tree status")))
      expect(r).toMatchObject({ state: "up", parent: "(head)", depth: 1 });
    expect(exec(`${TESTBED}[1-3]`, "hostname")).toEqual([1, 2, 3].map(name));
    // More than a window of bytes, both ways.
    const plan = `mt-topo gen ring --routers 6000 | mt-topo place '${TESTBED}[1-3]'`;
    const mapped = head(
      `${plan} >~/plan; mt-tree map -- cat <~/plan | sort | sha256sum; sort ~/plan | sha256sum`,
    );
    const [there, here] = mapped.stdout.trim().split("\n");
    expect([mapped.stderr, there]).toEqual(["", here]);

    on(3, 'kill -9 "$(cat /run/megatux/agents/*/agent.pid)"');
    await until("the loss of a host", () => head("mt-tree status").code === 1, 5);
    const healed = head("mt-tree up");
    expect([healed.code, states(healed)]).toEqual([0, up(1, 2, 3)]);
    head("kill -9 $(cat /run/megatux/tree/head.pid)");
    await until("the end of all agents", () => agents().length === 0, 5);
    expect(head("mt-tree up").code).toBe(0);
    expect(head("mt-tree down")).toEqual({ code: 0, stdout: "", stderr: "" });
    await until("the end of all agents", () => agents().length === 0, 5);
    expect(head(`ps -eo args | grep '[s]sh .*${TESTBED}'`).stdout).toBe("");
  });

  test("hosts that cannot be used say why, each in its time, and the others are up", async () => {
    writeFileSync(
      join(dir, "listeners.js"),
      `const net = require("net"); const greeting = "SSH-2.0-OpenSSH_9.2\\r\\n";
      const listen = (port, meet) => net.createServer((s) => { s.on("error", () => {}); meet(s); }).listen(port);
      listen(2201, () => {}); listen(2202, (s) => s.end(greeting)); listen(2203, (s) => s.write(greeting));`,
    );
    const listeners = ["run", process.execPath, join(dir, "listeners.js")];
    children.push(spawn(join(root, "test/testbed"), listeners, { env, stdio: "ignore" }));
    await until("the listeners", () => head("exec 3<>/dev/tcp/127.0.0.1/2203").code === 0, 10);
    const at = (host: string, ...lines: string[]) => [`Host ${host}`, ...lines.map((l) => `  ${l}`)];
    writeFileSync(
      join(dir, "config"),
      [
        ...at("refused", `HostName ${name(1)}`, "Port 9"),
        ...at("silent", "HostName 127.0.0.1", "Port 2201"),
        ...at("closing", "HostName 127.0.0.1", "Port 2202"),
        ...at("mute", "HostName 127.0.0.1", "Port 2203"),
        ...at("keyless", `HostName ${name(1)}`, "IdentityFile /dev/null", "IdentitiesOnly yes"),
        ...at("stranger", `HostName ${name(1)}`, "UserKnownHostsFile /dev/null"),
        ...at("alias", `HostName ${name(1)}`),
        "",
      ].join("\n"),
    );
    // No room for it on one, another processor in one more.
    on(5, "rm -rf ~/.cache/*; mkdir -p ~/.cache; mount -t tmpfs -o size=1m tmpfs ~/.cache");
    writeFileSync(join(dir, "uname"), '#!/bin/sh\n[ "$1" = -m ] && echo riscv64 || echo Linux\n', {
      mode: 0o755,
    });
    const other = on(6, `rm -rf ~/.cache; mount --bind ${dir}/uname "$(command -v uname)"; uname -m`);
    expect(other.stdout).toBe("riscv64\n");
    const began = Date.now();
    const bad = "refused,silent,closing,mute,keyless,stranger,alias,nowhere";
    const done = head(
      `mt-tree up '${TESTBED}[1-2,5-6],${bad},${name(1)}' --via ssh --ssh 'ssh -F ${dir}/config' --timeout 4`,
    );
    expect(Date.now() - began).toBeLessThan(25_000);
    expect(done.code).toBe(1);
    expect(hosts(done).filter((r: Rec) => r.state === "up")).toMatchObject([
      { id: name(1) },
      { id: name(2) },
    ]);
    expect(hosts(done)).toHaveLength(12);
    for (const [id, code, message] of [
      ["refused", "unavailable", /connection refused/],
      ["silent", "timeout", /says nothing/],
      ["closing", "lost", /closed the connection before/],
      ["mute", "timeout", /no answer from its sshd in 8 s/],
      ["keyless", "permission", /takes no key of ours/],
      ["stranger", "permission", /host key is not known/],
      ["alias", "usage", new RegExp(`it is host ${name(1)} by another name`)],
      ["nowhere", "unavailable", /name does not resolve/],
      [name(5), "io", /no room for .*disk full/],
      [name(6), "unavailable", new RegExp(`this mt is x86_64, ${name(6)} is riscv64`)],
    ] as const) {
      expect(errorOf(done, id), id).toMatchObject({ code, message: expect.stringMatching(message) });
    }
    // It belongs to the tree, but is missing.
    expect(hosts(head("mt-tree status")).map((r: Rec) => [r.id, r.state])).toEqual([
      [name(1), "up"],
      [name(2), "up"],
      [name(5), "failed"],
    ]);
    expect(on(5, "ls -A ~/.cache/megatux/*").stdout.trim()).toBe("");
    expect(head("mt-tree down")).toMatchObject({ code: 0, stderr: "" });
  });
});
