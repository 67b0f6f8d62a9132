/**
 * A tree of eight local hosts, compiled, and what goes wrong on one: hosts that die, freeze, are cut off or slow,
 * filters and reducers that misbehave, a head that dies, several clients and several trees together. Whatever
 * happens, every record comes out once, changed by its host or failed with the host's name, and nothing runs twice.
 */
import type { ChildProcess } from "node:child_process";
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { lock } from "../../../shared/host/lock.ts";
import { Lab, type Rec, records, until } from "../lab.ts";

const HOSTS = Array.from({ length: 8 }, (_, i) => `tf${i + 1}`);
const ALL = "tf[1-8]";
/** With two children a node. */
const PARENTS = {
  tf1: "(head)",
  tf2: "(head)",
  tf3: "tf1",
  tf4: "tf1",
  tf5: "tf2",
  tf6: "tf2",
  tf7: "tf3",
  tf8: "tf3",
};
const END = '{"kind":"end","id":"tree","counts":{}}';
const recordOf = (i: number, host: string) =>
  `{"kind":"guest","id":"g${i}","host":"${host}","index":${i},"image":"tux","cores":1,"mem_mib":128,"interfaces":[{"segment":"lan-chi","ip":"10.1.0.10/16"}]}`;
const hostOf = (i: number) => HOSTS[i % HOSTS.length]!;

describe.skipIf(process.getuid?.() !== 0)("a tree of eight hosts (needs root)", () => {
  let lab: Lab;
  /** What a test has started and has not ended. */
  const started = new Set<ChildProcess>();
  const path = (name: string) => join(lab.dir, name);
  const text = (name: string) => (existsSync(path(name)) ? readFileSync(path(name), "utf8") : "");
  const size = (name: string) => (existsSync(path(name)) ? statSync(path(name)).size : 0);
  const put = (name: string, content = "") => writeFileSync(path(name), content);

  /** A shell line that goes on while the test does; what it says on stderr is in `err` at once. */
  function begin(line: string) {
    const { child, done } = lab.start("/bin/bash", ["-c", line]);
    started.add(child);
    let err = "";
    child.stderr?.on("data", (bytes) => {
      err += bytes;
    });
    void done.then(() => started.delete(child));
    return { child, pid: child.pid!, done, err: () => err };
  }
  const run = (line: string) => begin(line).done;
  const list = async (): Promise<Rec[]> => records((await run("mt-tree status --records")).stdout);
  const pidOf = (host: string) => Number(text(`run/hosts/${host}/tree/agent.pid`));
  const lives = (pid: number) => existsSync(`/proc/${pid}/stat`) && !/\) Z /.test(text0(`/proc/${pid}/stat`));
  /** Polls what has to be asked for. */
  async function come(what: string, is: () => Promise<boolean>, timeout_s = 20): Promise<void> {
    const end = Date.now() + timeout_s * 1000;
    while (!(await is())) {
      if (Date.now() > end) throw new Error(`${what}: not in ${timeout_s} s`);
      await new Promise((r) => setTimeout(r, 20));
    }
  }
  const whole = () => come("all hosts there", async () => (await list()).every((h) => h.state === "up"));
  const said = (what: string, ms: number) =>
    process.stdout.write(`    ${what}: ${(ms / 1000).toFixed(2)} s\n`);

  beforeAll(() => {
    lab = new Lab();
    const up = lab.sh(`mt-tree up '${ALL}' --fanout 2 >hosts`);
    expect([up.code, up.stderr]).toEqual([0, ""]);
  });
  afterEach(({ task }) => {
    for (const child of started) child.kill("SIGKILL");
    for (const name of ["go", "out", "out2"]) rmSync(path(name), { force: true });
    for (const host of HOSTS) rmSync(path(`run/hosts/${host}/starts`), { force: true });
    // What one test broke must not fail the next.
    if (task.result?.state === "fail") lab.sh("mt-tree up");
  });
  afterAll(() => {
    lab?.remove();
  });

  // ---- one host of many ----

  const TOTAL = 200_000;
  /** Writes down that it was started; hosts with an even number change their records. */
  const FILTER =
    "echo $$ >>$MT_RUN/starts; case $MT_HOST in *[2468]) exec sed -u s/tux/new/;; *) exec cat;; esac";
  const changed = (i: number) =>
    recordOf(i, hostOf(i)).replace(/tux/, /[2468]$/.test(hostOf(i)) ? "new" : "tux");
  const startsOn = (host: string) => text(`run/hosts/${host}/starts`).split("\n").filter(Boolean).map(Number);

  /**
   * Maps 200,000 records, half of which are sent only when `hurt` has happened to the victim, in mid-stream. `heal`
   * comes when the client has said that it is lost; then all of it is looked at.
   */
  async function mapThrough(victim: string, hurt: () => void, heal: () => void): Promise<void> {
    for (const [name, from, to] of [
      ["first", 0, TOTAL / 2],
      ["rest", TOTAL / 2, TOTAL],
    ] as const) {
      const lines: string[] = [];
      for (let i = from; i < to; i++) lines.push(recordOf(i, hostOf(i)));
      if (name === "rest") lines.push(END);
      put(name, `${lines.join("\n")}\n`);
    }
    const kids = HOSTS.filter((h) => PARENTS[h as keyof typeof PARENTS] === victim);
    const mapping = begin(
      `(cat first; until [ -e go ]; do sleep 0.02; done; cat rest) | mt-tree map -- sh -c '${FILTER}' >out`,
    );
    await until("a part of the records back", () => size("out") > size("first") / 8);
    hurt();
    const began = Date.now();
    put("go");
    const elsewhere = come("its children are elsewhere", async () => {
      const hosts = await list();
      return kids.every((k) => {
        const kid = hosts.find((h) => h.id === k)!;
        return kid.state === "up" && kid.parent !== victim;
      });
    }).then(() => said(`${victim} hurt: its children joined elsewhere after`, Date.now() - began));
    await until("told lost", () => mapping.err().includes(`Cannot hear from ${victim}: it is gone`), 15);
    said(`${victim} hurt: told lost after`, Date.now() - began);
    await elsewhere;
    const left = startsOn(victim);
    heal();
    expect((await mapping.done).code).toBe(1);

    const lines = text("out").trimEnd().split("\n");
    expect(lines.pop()).toBe(END);
    const seen = new Set<number>();
    const last = new Map<string, number>();
    let failed = 0;
    for (const line of lines) {
      const i = Number(/"id":"g(\d+)"/.exec(line)![1]);
      const host = hostOf(i);
      if (seen.has(i)) throw new Error(`twice: ${line}`);
      seen.add(i);
      if ((last.get(host) ?? -1) >= i) throw new Error(`out of order: ${line}`);
      last.set(host, i);
      if (line === changed(i)) continue;
      const record = JSON.parse(line);
      if (host !== victim || record.state !== "failed" || !record.error.message.includes(victim))
        throw new Error(`not what it was: ${line}`);
      failed++;
    }
    expect(seen.size).toBe(TOTAL);
    // Half of its records were sent after it could not answer any more.
    expect(failed).toBeGreaterThanOrEqual(TOTAL / HOSTS.length / 2);
    expect(failed).toBeLessThan(TOTAL / HOSTS.length);
    for (const host of HOSTS) expect([host, startsOn(host).length]).toEqual([host, 1]);
    await until("no command runs on", () => !left.some(lives), 15);
    for (const host of HOSTS) expect(startsOn(host).filter(lives)).toEqual([]);
  }

  test("an inner agent killed in mid-map: its own records come out failed, all others are whole", async () => {
    await mapThrough(
      "tf1",
      () => process.kill(pidOf("tf1"), "SIGKILL"),
      () => {},
    );
    const mended = await run("mt-tree up");
    expect(mended.code).toBe(0);
  });

  test("an inner agent that freezes and comes back: fenced off, its command ended, nothing run twice", async () => {
    const pid = pidOf("tf2");
    await mapThrough(
      "tf2",
      () => process.kill(pid, "SIGSTOP"),
      () => process.kill(pid, "SIGCONT"),
    );
    expect(pidOf("tf2")).toBe(pid);
  });

  test("a host whose link is cut, and heals: back without mt-tree up", async () => {
    const pid = pidOf("tf3");
    const link = (state: string) =>
      expect(
        lab.sh(`nsenter --net=/proc/$(cat run/tree/head.pid)/ns/net ip link set p2 ${state}`).stderr,
      ).toBe("");
    await mapThrough(
      "tf3",
      () => link("down"),
      () => link("up"),
    );
    await whole();
    expect(pidOf("tf3")).toBe(pid);
  });

  const memory = (pid: number, what: string) =>
    Number(new RegExp(`^${what}:\\s+(\\d+)`, "m").exec(text0(`/proc/${pid}/status`))?.[1] ?? 0) / 1024;

  test("a slow host holds back its own share, up to a bound; memory stays flat", async () => {
    const n = 700_000;
    const fd = openSync(path("many"), "w");
    let others = 0;
    for (let i = 0; i < n; i += 10_000) {
      let block = "";
      for (let k = i; k < i + 10_000; k++) {
        const line = `${recordOf(k, hostOf(k))}\n`;
        block += line;
        if (hostOf(k) !== "tf5") others += line.length;
      }
      writeSync(fd, block);
    }
    writeSync(fd, `${END}\n`);
    closeSync(fd);
    const slow = `[ $MT_HOST != tf5 ] || until [ -e ${path("go")} ]; do sleep 0.02; done; exec cat`;
    const position = (pid: number) => Number(/^pos:\s+(\d+)/.exec(text0(`/proc/${pid}/fdinfo/0`))![1]);

    // More waits for it than may: the stream is held back.
    const held = begin(`exec mt-tree map --buffer 1 -- sh -c '${slow}' <many >out`);
    await until("a part of the others' records back", () => size("out") > others / 20);
    let was = -1;
    let same = 0;
    await until("the stream stands, or has ended", () => {
      const is = position(held.pid);
      same = is === was ? same + 1 : 0;
      was = is;
      return same >= 15;
    });
    expect(was).toBeLessThan(size("many") / 2);
    put("go");
    expect((await held.done).code).toBe(0);
    rmSync(path("go"));

    // What waits for it is within the limit: the others are done before it has begun.
    const free = begin(`exec mt-tree map --buffer 16 -- sh -c '${slow}' <many >out`);
    await until("all records of the others", () => size("out") === others);
    put("go");
    let most = 0;
    let agents = 0;
    await until("all records", () => {
      most = Math.max(most, memory(free.pid, "VmHWM"));
      for (const host of HOSTS) agents = Math.max(agents, memory(pidOf(host), "RssAnon"));
      return size("out") === size("many");
    });
    expect((await free.done).code).toBe(0);
    process.stdout.write(
      `    client at most ${most.toFixed(0)} MiB resident; agents ${agents.toFixed(0)} of their own, ${Math.max(...HOSTS.map((h) => memory(pidOf(h), "VmHWM"))).toFixed(0)} resident\n`,
    );
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThan(250);
    expect(agents).toBeLessThan(80);
    const perHost = lab.sh(
      `for h in ${HOSTS.join(" ")}; do cmp <(grep -a "\\"$h\\"" many) <(grep -a "\\"$h\\"" out) || exit; done`,
    );
    expect(perHost).toMatchObject({ code: 0, stdout: "", stderr: "" });
  });

  test("in the end every host is back under its own parent", () =>
    come("the tree has its shape again", async () => {
      const parents = Object.fromEntries((await list()).map((h) => [h.id, h.parent]));
      return JSON.stringify(parents) === JSON.stringify(PARENTS);
    }));

  // ---- filters ----

  test("filters of every kind, one a host: what each did shows on its own records only", async () => {
    const range = recordOf(0, "tf3").replace("g0", "s[0-9]");
    const lines = HOSTS.flatMap((h) =>
      h === "tf3" ? [range] : [0, 1, 2].map((k) => recordOf(k, h).replace(`g${k}`, `${h}-${k}`)),
    );
    put("few", `${lines.join("\n")}\n${END}\n`);
    put(
      "filter",
      `case $MT_HOST in
      tf1) exec sed s/tux/new/ ;;
      tf2) tac | head -c -1 ;;
      tf3) exec sed '/s\\[0-9\\]/{s/\\[0-9\\]/[0-3]/;p;s/\\[0-3\\]/[7-9]/}' ;;
      tf4) exec sed /tf4-1/d ;;
      tf5) echo no json; echo '{"a":1}'; printf '\\377\\n'; exec cat ;;
      tf6) exit 0 ;;
      tf7) head -c 3000000 /dev/zero | tr '\\0' x | fold -w 3000 >&2; head -c 3000000 /dev/zero | tr '\\0' y >&2; exec cat ;;
      tf8) read -r line; echo "$line"; printf '{"kind":"guest","id":"tf8-1"'; kill -9 $$ ;;
      esac`,
    );
    const mapping = begin(`mt-tree map -- sh ${path("filter")} <few`);
    // A slow reader of stderr: the pipe is full for a while.
    mapping.child.stderr!.pause();
    setTimeout(() => mapping.child.stderr!.resume(), 400);
    const done = await mapping.done;
    expect(done.code).toBe(1);
    const out = done.stdout.trimEnd().split("\n");
    expect(out.at(-1)).toBe(END);
    const of = (host: string) => out.filter((l) => l.includes(`"host":"${host}"`));
    const sent = (host: string) => lines.filter((l) => l.includes(`"host":"${host}"`));
    const failed = (host: string) =>
      records(of(host).join("\n")).flatMap((r) =>
        r.state === "failed" ? [[r.id, (r.error as Rec).message]] : [],
      );
    expect(of("tf1")).toEqual(sent("tf1").map((l) => l.replace("tux", "new")));
    expect(of("tf2")).toEqual(sent("tf2").reverse());
    expect(of("tf3").map((l) => JSON.parse(l).id)).toEqual(["s[0-3]", "s[7-9]", "s[4-6]"]);
    expect(failed("tf3")).toEqual([
      ["s[4-6]", expect.stringContaining("on tf3: sh ended with exit code 0 before it said so")],
    ]);
    expect(of("tf4")).toHaveLength(3);
    expect(failed("tf4")).toEqual([["tf4-1", expect.stringContaining("tf4")]]);
    const five = records(of("tf5").join("\n"));
    expect(five.filter((r) => r.kind === "error").map((r) => r.raw)).toEqual([
      "no json",
      '{"a":1}',
      "\ufffd",
    ]);
    expect(of("tf5").filter((l) => !l.startsWith('{"kind":"error"'))).toEqual(sent("tf5"));
    expect(failed("tf6").map(([id]) => id)).toEqual(["tf6-0", "tf6-1", "tf6-2"]);
    expect(of("tf7")).toEqual(sent("tf7"));
    expect(done.stderr.match(/^mt-tree: tf7: x{3000}$/gm)).toHaveLength(999);
    expect(done.stderr.match(/y/g)!.length).toBeGreaterThanOrEqual(3_000_000);
    expect(of("tf8")[0]).toBe(sent("tf8")[0]);
    expect(records(of("tf8")[1]!)[0]).toMatchObject({ kind: "error", raw: '{"kind":"guest","id":"tf8-1"' });
    expect(failed("tf8")).toEqual(
      [1, 2].map((k) => [`tf8-${k}`, expect.stringContaining("tf8: sh was ended by SIGKILL")]),
    );

    const none = await run("mt-tree map -- no-such-filter <few");
    expect(none.code).toBe(1);
    const lost = records(none.stdout).filter((r) => r.kind === "guest");
    expect(lost.map((r) => r.id).sort()).toEqual(lines.map((l) => JSON.parse(l).id).sort());
    for (const r of lost)
      expect(r).toMatchObject({
        state: "failed",
        error: { message: "Cannot run no-such-filter: it is not on this host" },
      });
  });

  test("filters that end while their share of the stream still comes: every record is told, once", async () => {
    const ids = Array.from({ length: 200_000 }, (_, i) => `g${i}`);
    put("stream", `${ids.map((_, i) => recordOf(i, hostOf(i))).join("\n")}\n${END}\n`);
    // Each takes another part of its share before it ends.
    const done = await run(`mt-tree map -- sh -c 'exec head -n $((\${MT_HOST#tf} * 1000))' <stream >out`);
    expect(done.code).toBe(1);
    const out = text("out").trimEnd().split("\n").slice(0, -1);
    const told = out.map((line) => /"id":"(g\d+)"/.exec(line)![1]!);
    expect(told).toHaveLength(ids.length);
    expect(new Set(told).size).toBe(ids.length);
    for (const [k, host] of HOSTS.entries()) {
      const whole = out.filter((line) => line.includes(`"${host}"`) && !line.includes('"state":"failed"'));
      expect([host, whole.length]).toEqual([host, (k + 1) * 1000]);
    }
  });

  // ---- reductions ----

  describe("--reduce", () => {
    const N = 8_000;
    const SUM = "awk '\\''{ n += $1 } END { print n }'\\''";
    const reduce = (reducer: string) => `mt-tree map --reduce '${reducer}' -- sh -c 'grep -c guest' <stream`;
    beforeAll(() => {
      const lines: string[] = [];
      for (let i = 0; i < N; i++) lines.push(recordOf(i, hostOf(i)));
      put("stream", `${lines.join("\n")}\n${END}\n`);
    });
    const failedIn = (out: string) =>
      records(out.replace(/^\d+\n/gm, "")).filter((r) => r.state === "failed");

    test("a count is exact", async () => {
      expect(await run(reduce(SUM))).toEqual({ code: 0, stdout: `${N}\n`, stderr: "" });
    });

    test("an inner agent killed while reducers run: the count is of the others, its records come out failed", async () => {
      const gate = `[ -z "$MT_HOST" ] || { : >$MT_RUN/reducing; until [ -e ${path("go")} ]; do sleep 0.02; done; }; ${SUM}`;
      const reducing = begin(reduce(gate));
      await until("reducers run", () => HOSTS.every((h) => existsSync(path(`run/hosts/${h}/reducing`))));
      process.kill(pidOf("tf1"), "SIGKILL");
      put("go");
      const done = await reducing.done;
      expect(done.code).toBe(1);
      expect(done.stdout.match(/^\d+$/gm)).toEqual([String((N / 8) * 7)]);
      const failed = failedIn(done.stdout);
      expect(failed).toHaveLength(N / 8);
      expect(failed.every((r) => r.host === "tf1" && String((r.error as Rec).message).includes("tf1"))).toBe(
        true,
      );
      expect((await run("mt-tree up")).code).toBe(0);
    });

    test.each([
      [
        "fails on a host",
        `if [ "$MT_HOST" = tf3 ]; then exit 3; fi; ${SUM}`,
        /Cannot reduce at tf3: \/bin\/sh ended with exit code 3/,
      ],
      [
        "is missing on the machine of the head",
        `[ -n "$MT_HOST" ] || exec no-such-reducer; ${SUM}`,
        /Cannot reduce: \/bin\/sh ended with exit code 127/,
      ],
      ["stops reading", "exit 0", /Cannot reduce.* ended before it had taken in everything/],
    ])("a reducer that %s: no result, and all records come out failed", async (_what, reducer, why) => {
      const done = await run(reduce(reducer));
      expect(done.code).toBe(1);
      expect(done.stderr).toMatch(why);
      const failed = failedIn(done.stdout);
      expect(done.stdout).not.toMatch(/^\d+$/m);
      expect(failed).toHaveLength(N);
      expect(failed.every((r) => why.test(String((r.error as Rec).message)))).toBe(true);
    });
  });

  // ---- clients, heads, trees ----

  test("two clients at once: each has what is its own", async () => {
    const maps = ["one", "two"].map((word) => {
      const lines = Array.from({ length: 40_000 }, (_, i) => recordOf(i, hostOf(i)).replace("tux", word));
      put(`in-${word}`, `${[...lines, END].join("\n")}\n`);
      return run(
        `mt-tree map -- sed s/${word}/${word}-done/ <in-${word} | sort >back-${word}; sed s/${word}/${word}-done/ in-${word} | sort | cmp - back-${word}`,
      );
    });
    const exec = run(`mt-tree exec '${ALL}' -- sh -c 'echo $MT_HOST'`);
    for (const done of await Promise.all(maps)) expect(done).toEqual({ code: 0, stdout: "", stderr: "" });
    expect(records((await exec).stdout).every((r) => r.stdout === `${r.id}\n`)).toBe(true);
  });

  test("the head killed: clients say so, commands end, and mt-tree up mends it", async () => {
    put("few", `${HOSTS.map((h, i) => recordOf(i, h)).join("\n")}\n`);
    const mapping = begin(
      "(cat few; until [ -e enough ]; do sleep 0.1; done) | mt-tree map -- sh -c 'echo $$ >>$MT_RUN/starts; cat; echo ended >>$MT_RUN/starts'",
    );
    await until("commands run", () => HOSTS.every((h) => startsOn(h).length === 1));
    const commands = HOSTS.flatMap(startsOn);
    process.kill(Number(text("run/tree/head.pid")), "SIGKILL");
    const began = Date.now();
    await until("the client says so", () => mapping.err().includes("the head of the tree is gone"), 10);
    said("head killed: told after", Date.now() - began);
    const none = await run("mt-tree status");
    expect([none.code, none.stderr]).toEqual([
      69,
      expect.stringMatching(/its head is gone[\s\S]*mt-tree up mends it/),
    ]);
    await until("commands end", () => !commands.some(lives), 25);
    said("head killed: commands ended after", Date.now() - began);
    // Its input may still bring records, which come out failed: it ends when that does.
    put("enough", "");
    expect((await mapping.done).code).toBe(1);
    const before = HOSTS.map(pidOf);
    expect((await run("mt-tree up")).code).toBe(0);
    await whole();
    // The agents are those that were there.
    expect(HOSTS.map(pidOf)).toEqual(before);
  });

  test("what an agent leaves when it is killed is ended by the next one", async () => {
    const line = `(trap "" PIPE HUP; while :; do sleep 0.1; done) & echo $! >>$MT_RUN/starts; echo $$ >>$MT_RUN/starts; cat >/dev/null`;
    const running = begin(`mt-tree exec tf8 --stdin -- sh -c '${line}' < <(exec tail -f /dev/null)`);
    await until("it runs", () => startsOn("tf8").length === 2);
    const [child = 0] = startsOn("tf8");
    process.kill(pidOf("tf8"), "SIGKILL");
    expect((await running.done).code).toBe(1);
    expect(lives(child)).toBe(true);
    expect((await run("mt-tree up")).code).toBe(0);
    await until("it is ended", () => !lives(child), 10);
    expect(readdirSync(path("run/hosts/tf8/tree/groups"))).toEqual([]);
  });

  test("mt-tree up twice at the same moment: one tree, an agent a host", async () => {
    process.kill(pidOf("tf6"), "SIGKILL");
    const both = await Promise.all([run("mt-tree up"), run(`mt-tree up '${ALL}'`)]);
    expect(both.map((d) => d.code)).toEqual([0, 0]);
    for (const { stdout } of both)
      expect(records(stdout).map((r) => [r.id, r.state])).toEqual(HOSTS.map((h) => [h, "up"]));
    for (const host of HOSTS) {
      const agents = lab.sh(`ip netns pids mt-${host} | xargs -r ps -o args= -p | grep -c ' agent '`);
      expect([host, agents.stdout]).toEqual([host, "1\n"]);
    }
  });

  test("another tree on this machine: with other hosts beside it, with the same ones refused", async () => {
    const other = (line: string) => `MT_RUN=$PWD/run2 MT_STATE=$PWD/state2 ${line}`;
    try {
      const refused = await run(other(`mt-tree up '${ALL}'`));
      expect([refused.code, refused.stdout, refused.stderr]).toEqual([
        75,
        "",
        expect.stringMatching(/Cannot make host tf1: .*is there and is not of this tree/),
      ]);
      expect((await run(other("mt-tree down"))).code).toBe(0);
      // Two trees that start at the same moment with the same names: one gets them, and the other's down removes nothing.
      const release = (await lock(path("leases/hosts.lock"), "the test"))._unsafeUnwrap();
      const race = [2, 3].map((k) =>
        run(`MT_RUN=$PWD/run${k} MT_STATE=$PWD/state${k} MT_LEASES=$PWD/leases mt-tree up 'tfo[1-2]'`),
      );
      const waiting = () => readdirSync(path("leases")).filter((f) => f.startsWith("hosts.lock."));
      await until("both wait for their turn", () => waiting().length === 2, 15);
      release();
      const codes = (await Promise.all(race)).map((done) => done.code);
      expect([...codes].sort()).toEqual([0, 75]);
      const [won, gone] = codes[0] === 0 ? ["2", "3"] : ["3", "2"];
      expect((await run(`MT_RUN=$PWD/run${gone} MT_STATE=$PWD/state${gone} mt-tree down`)).code).toBe(0);
      const there = await run(`MT_RUN=$PWD/run${won} mt-tree exec 'tfo[1-2]' -- sh -c 'echo $MT_RUN'`);
      expect(records(there.stdout).map((r) => r.stdout)).toEqual(
        expect.arrayContaining([1, 2].map((k) => `${path(`run${won}`)}/hosts/tfo${k}\n`)),
      );
      expect((await list()).map((h) => [h.id, h.state])).toEqual(HOSTS.map((h) => [h, "up"]));
    } finally {
      for (const k of [2, 3]) lab.sh(`MT_RUN=$PWD/run${k} MT_STATE=$PWD/state${k} mt-tree down`);
    }
    expect((await list()).every((h) => h.state === "up")).toBe(true);
  });

  test("down: nothing of it is left", async () => {
    const agents = HOSTS.map(pidOf);
    const down = await run("mt-tree down");
    expect([down.code, down.stderr]).toEqual([0, ""]);
    expect(agents.filter(lives)).toEqual([]);
    expect(lab.sh("ip netns list | grep -c '^mt-tf'").stdout).toBe("0\n");
    expect(existsSync(path("run"))).toBe(false);
  });
});

function text0(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
