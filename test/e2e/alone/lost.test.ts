/**
 * Hosts and the head die at every moment of a launch: before the first record, during each stage, between two. No
 * record is lost, every stage ends, and what was for a dead host fails when its death is known, not when --timeout is over.
 * MT_TEST_SEED=N repeats a run, MT_TEST_ROUNDS=N makes it shorter or longer: `make soak` asks for 40.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Lab, type Rec, records, until } from "../lab.ts";

const ROUNDS = Number(process.env.MT_TEST_ROUNDS) || 6;
const SEED = Number(process.env.MT_TEST_SEED) || Math.floor(Math.random() * 1e9);
const HOSTS = ["tel1", "tel2", "tel3", "tel4"];
const ALL = "tel[1-4]";
/** The longest time until the tree knows that a host is dead, and what a busy machine may add to any time. */
const KNOWN_S = 3;
const LOAD_S = 20;

const onHosts = (...words: string[]) => ["mt-tree", "map", "--", ...words];
/** A launch as mt-launch runs it, with a shorter wait for routers of dead hosts. */
const STAGES = [
  ["mt-push"],
  onHosts("mt-vnet", "up"),
  onHosts("mt-boot", "up", "--paused"),
  onHosts("mt-ksm", "settle", "--timeout", "1"),
  onHosts("mt-route", "up", "--timeout", "2"),
  onHosts("mt-boot", "resume"),
  ["mt-status", "check", "--timeout", "5"],
];
const nameOf = (k: number) => STAGES[k]!.join(" ").replace("mt-tree map -- ", "");
/** What the stages may take by themselves: the limits above, and booting a few guests on two busy cores. */
const WORK_S = 120;

/** Numbers that look random, the same for the same seed. */
function randomOf(seed: number): (below: number) => number {
  let a = seed >>> 0;
  return (below) => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}

/** A line, and when it was seen. */
interface Stamped {
  at: number;
  line: string;
}
interface Stage {
  child: ChildProcess;
  came: Stamped[];
  out: Stamped[];
  err: string;
  code: number | null | undefined;
}

/** A pipeline whose pipes go through this test, line by line, so that it sees what goes in and comes out, and when. */
class Pipeline {
  readonly stages: Stage[];
  #onLine: (k: number, line: string) => void = () => {};

  constructor(lab: Lab, commands: readonly string[][]) {
    this.stages = commands.map((words) => ({
      child: spawn(words[0]!, words.slice(1), {
        cwd: lab.dir,
        env: lab.env,
        stdio: ["pipe", "pipe", "pipe"],
      }),
      came: [],
      out: [],
      err: "",
      code: undefined,
    }));
    for (const [k, stage] of this.stages.entries()) {
      const next = this.stages[k + 1];
      let tail = "";
      stage.child.stdin!.on("error", () => {});
      stage.child.stderr!.on("data", (d) => (stage.err += d));
      stage.child.stdout!.on("data", (chunk) => {
        const lines = `${tail}${chunk}`.split("\n");
        tail = lines.pop()!;
        const at = Date.now();
        for (const line of lines) {
          stage.out.push({ at, line });
          next?.came.push({ at, line });
          next?.child.stdin?.write(`${line}\n`);
          this.#onLine(k, line);
        }
      });
      stage.child.stdout!.on("end", () => next?.child.stdin?.end());
      stage.child.on("close", (code) => (stage.code = code));
    }
  }

  feed(lines: readonly string[]): void {
    const [first] = this.stages;
    for (const line of lines) {
      first!.came.push({ at: Date.now(), line });
      first!.child.stdin!.write(`${line}\n`);
    }
    first!.child.stdin!.end();
  }

  /** When a matching line has left stage `k`. */
  when(k: number, is: (line: string) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const before = this.#onLine;
      this.#onLine = (j, line) => {
        before(j, line);
        if (j === k && is(line)) resolve();
      };
    });
  }

  get ended(): boolean {
    return this.stages.every((s) => s.code !== undefined);
  }

  kill(): void {
    for (const { child } of this.stages) child.kill("SIGKILL");
  }
}

/** Every record of a stream, ranges of guests member by member, with how often it stands there. */
function counted(lines: readonly string[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of lines) {
    const { kind, id, host } = JSON.parse(line) as Rec;
    if (["copy", "switch", "sample", "exit", "verdict", "error"].includes(kind)) continue;
    const range = /^(.*)\[(\d+)-(\d+)\]$/.exec(id);
    const ids = range
      ? Array.from(
          { length: Number(range[3]) - Number(range[2]) + 1 },
          (_, i) => range[1]! + (Number(range[2]) + i),
        )
      : [id];
    for (const one of ids) {
      const key = `${kind} ${one} ${host ?? ""}`;
      found.set(key, (found.get(key) ?? 0) + 1);
    }
  }
  return found;
}
const keyOf = (r: Rec) => `${r.kind} ${r.id}`;
const pause = (ms: number) => new Promise((r) => setTimeout(r, ms));

describe.skipIf(process.getuid?.() !== 0)("who dies is known (needs root)", () => {
  let lab: Lab;
  const frozen = new Set<number>();
  const pidOf = (host: string) =>
    Number(
      readFileSync(
        join(lab.dir, host === "head" ? "run/tree/head.pid" : `run/hosts/${host}/tree/agent.pid`),
        "utf8",
      ),
    );
  const planOf = (name: string) => readFileSync(join(lab.dir, name), "utf8").trimEnd().split("\n");
  /** Lets frozen processes go on, ends a frozen head; then mt-tree up brings all back. */
  const heal = () => {
    for (const pid of frozen) {
      const isHead = pid === pidOf("head");
      process.kill(pid, isHead ? "SIGKILL" : "SIGCONT");
    }
    frozen.clear();
    const up = lab.sh("mt-tree up");
    expect([up.code, up.stderr]).toEqual([0, ""]);
  };
  const hurt = (who: string, signal: "SIGKILL" | "SIGSTOP") => {
    const pid = pidOf(who);
    process.kill(pid, signal);
    if (signal === "SIGSTOP") frozen.add(pid);
  };

  beforeAll(() => {
    lab = new Lab();
    lab.image();
    expect(lab.sh("mt-status snapshot >before").code).toBe(0);
    const made = lab.sh(`mt-tree up '${ALL}' --fanout 2 >hosts &&
      mt-topo gen ring --routers 4 --id telr | mt-topo place hosts >routers.plan &&
      mt-topo gen ring --routers 4 --id telg | mt-topo guests 4 --image tux | mt-topo place hosts >guests.plan`);
    expect([made.code, made.stderr]).toEqual([0, ""]);
  });
  afterEach(({ task }) => {
    if (task.result?.state !== "fail" || !lab) return;
    for (const pid of frozen) process.kill(pid, "SIGKILL");
    frozen.clear();
    lab.sh("mt-tree up");
  });
  afterAll(() => {
    if (!lab) return;
    for (const pid of frozen) process.kill(pid, "SIGCONT");
    lab.sh("for id in telr telg; do mt-tree exec @all -- mt-boot down --experiment $id; done");
    lab.remove();
  });

  // ---- before the first record ----

  const few = HOSTS.map((host, i) => `{"kind":"sonnet","id":"s${i}","host":"${host}"}`);
  const END = '{"kind":"end","id":"x","counts":{}}';
  /** A map that gets its records, one a host, when the tree has known for a while. */
  async function mapAfter(happens: () => void | Promise<void>, wait_s: number) {
    const map = new Pipeline(lab, [onHosts("cat")]);
    // It has asked the head who is there.
    await pause(1_000);
    await happens();
    await pause(wait_s * 1000);
    const began = Date.now();
    map.feed([...few, END]);
    await until("the map ends", () => map.ended, KNOWN_S + LOAD_S);
    const [{ out, code, err }] = map.stages as [Stage];
    const lines = out.map((o) => o.line);
    expect(lines.at(-1)).toBe(END);
    expect(lines.map((l) => (JSON.parse(l) as Rec).id).sort()).toEqual(["s0", "s1", "s2", "s3", "x"]);
    const failed = records(lines.join("\n")).filter((r) => r.state === "failed");
    return { code, err, failed: failed.map((r) => r.host).sort(), took_s: (Date.now() - began) / 1000 };
  }

  test("a host that died, or froze, before its first record: its records fail at once", async () => {
    for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
      const done = await mapAfter(() => hurt("tel1", signal), KNOWN_S + 2);
      expect([done.code, done.failed]).toEqual([1, ["tel1"]]);
      expect(done.err).toMatch(/Cannot reach host tel1: it is gone since /);
      expect(done.took_s).toBeLessThan(LOAD_S);
      heal();
    }
    // Not yet known: as soon as it is.
    const done = await mapAfter(() => hurt("tel3", "SIGSTOP"), 0);
    expect([done.code, done.failed]).toEqual([1, ["tel3"]]);
    heal();
  });

  test("a host that died and came anew before its first record, and one that joined late, are reached", async () => {
    const anew = await mapAfter(() => {
      hurt("tel2", "SIGKILL");
      heal();
    }, 0);
    expect([anew.code, anew.failed]).toEqual([0, []]);
    few.push('{"kind":"sonnet","id":"s4","host":"tel5"}');
    try {
      const map = new Pipeline(lab, [onHosts("cat")]);
      await pause(1_000);
      expect(lab.sh("mt-tree up tel5").code).toBe(0);
      map.feed([...few, END]);
      await until("the map ends", () => map.ended, LOAD_S);
      expect(map.stages[0]!.out.map((o) => o.line).sort()).toEqual([...few, END].sort());
    } finally {
      few.pop();
    }
  });

  test("a head that dies, or freezes, while stdin is idle: said at once, and what still comes fails", async () => {
    for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
      const done = await mapAfter(() => hurt("head", signal), KNOWN_S + 2);
      expect([done.code, done.failed]).toEqual([1, HOSTS]);
      expect(done.err).toMatch(/^mt-tree: the head of the tree is gone: /);
      expect(done.took_s).toBeLessThan(LOAD_S);
      heal();
    }
    const idle = new Pipeline(lab, [onHosts("cat")]);
    await pause(1_000);
    hurt("head", "SIGKILL");
    await until("it is said", () => idle.stages[0]!.err.includes("the head of the tree is gone"), LOAD_S);
    await until("it ends, though stdin stays silent", () => idle.ended, 10 + LOAD_S);
    expect(idle.stages[0]!.code).toBe(1);
    // One that is gone from the beginning loses no record either.
    const map = new Pipeline(lab, [onHosts("cat")]);
    map.feed([...few, END]);
    await until("the map ends", () => map.ended, LOAD_S);
    expect(map.stages[0]!.code).toBe(69);
    expect([...counted(map.stages[0]!.out.map((o) => o.line))]).toEqual([...counted([...few, END])]);
    heal();
  });

  test("a host whose command has ended dies before the reduction begins: its records fail, the rest is reduced", async () => {
    const script = '[ "$MT_HOST" != tel4 ] || until [ -e go ]; do sleep 0.1; done; exec cat';
    const map = new Pipeline(lab, [
      ["mt-tree", "map", "--reduce", "cat", "--", "sh", "-c", script.replace("go", join(lab.dir, "go"))],
    ]);
    map.feed([...few, END]);
    await pause(2_000);
    hurt("tel2", "SIGKILL");
    await pause((KNOWN_S + 1) * 1000);
    writeFileSync(join(lab.dir, "go"), "");
    await until("it ends", () => map.ended, LOAD_S);
    const lines = map.stages[0]!.out.map((o) => o.line);
    expect(map.stages[0]!.code).toBe(1);
    expect(counted(lines).get("sonnet s1 tel2")).toBe(1);
    expect(lines.find((l) => l.includes('"s1"'))).toContain('"state":"failed"');
    for (const i of [0, 2, 3]) expect(lines).toContain(few[i]);
    heal();
  });

  // ---- at every moment of a launch ----

  const random = randomOf(SEED);
  const down = (plan: string) =>
    lab.sh(
      `mt-tree map -- mt-boot down <${plan} | mt-tree map -- mt-route down | mt-tree map -- mt-vnet down | mt-tree map -- mt-ksm down >razed; echo "\${PIPESTATUS[@]}"`,
    );

  /** One launch with one death; gives what is wrong with it, and how long it took after the death. */
  async function round(n: number): Promise<{ what: string; wrong: string[]; longest_s: number }> {
    // 0: before the first record; 2k - 1: during stage k; 2k: between stage k and the next.
    const moment = n % (2 * STAGES.length);
    const k = Math.ceil(moment / 2);
    const plan = n % 5 === 4 || moment === 1 ? "guests.plan" : "routers.plan";
    const lines = planOf(plan);
    const victim = random(4) === 0 ? "head" : HOSTS[random(HOSTS.length)]!;
    const signal = random(4) === 0 ? "SIGSTOP" : "SIGKILL";
    const delay_ms = random(700);
    const when =
      moment === 0 ? "before the first record" : `${moment % 2 ? "during" : "after"} ${nameOf(k - 1)}`;
    const what = `round ${n}: ${victim} ${signal} ${when} + ${delay_ms} ms, ${plan}`;
    // Files that are there already would not be pushed again.
    if (moment === 1 && victim !== "head")
      lab.sh(`mt-tree exec ${victim} -- sh -c 'rm -rf "$MT_STATE"/store'`);

    const launch = new Pipeline(lab, STAGES);
    let died = 0;
    const dies = () => {
      hurt(victim, signal);
      died = Date.now();
    };
    const isOwn = (line: string) => line.includes(`"host":"${victim === "head" ? "tel1" : victim}"`);
    if (moment === 0) {
      await pause(delay_ms);
      dies();
      await pause(random(3_000));
      launch.feed(lines);
    } else {
      const comes =
        moment % 2 === 0
          ? launch.when(k - 1, (line) => isOwn(line) || line.includes('"kind":"end"'))
          : k === 1
            ? Promise.resolve()
            : launch.when(k - 2, isOwn).then(() => pause(delay_ms));
      launch.feed(lines);
      if (moment === 1) await pause(delay_ms);
      await Promise.race([comes, until("the moment", () => launch.ended, WORK_S + LOAD_S)]);
      dies();
    }
    const wrong: string[] = [];
    try {
      await until("every stage ends", () => launch.ended, KNOWN_S + WORK_S + LOAD_S);
    } catch (thrown) {
      wrong.push(String(thrown));
      launch.kill();
    }
    const ended = Date.now();

    const sent = counted(lines);
    let longest_s = 0;
    for (const [k, stage] of launch.stages.entries()) {
      const name = nameOf(k);
      if (![0, 1, 69].includes(stage.code ?? -1)) wrong.push(`${name}: exit ${stage.code}: ${stage.err}`);
      const out = counted(stage.out.map((o) => o.line));
      for (const [key, times] of sent)
        if (out.get(key) !== times) wrong.push(`${name}: ${key} came out ${out.get(key) ?? 0} times`);
      if (!stage.out.at(-1)?.line.includes('"kind":"end"')) wrong.push(`${name}: its end is not the last`);
      // Records that this stage failed for lost hosts came no later than their death was known.
      const cameAt = new Map(stage.came.map((c) => [keyOf(JSON.parse(c.line)), c.at]));
      const failedBefore = new Set(
        stage.came.filter((c) => c.line.includes('"state":"failed"')).map((c) => keyOf(JSON.parse(c.line))),
      );
      for (const { at, line } of stage.out) {
        const record = JSON.parse(line) as Rec & { error?: { by: string; code: string } };
        if (record.error?.by !== "mt-tree" || failedBefore.has(keyOf(record))) continue;
        const waited_s = (at - Math.max(died, cameAt.get(keyOf(record)) ?? 0)) / 1000;
        longest_s = Math.max(longest_s, waited_s);
        if (waited_s > KNOWN_S + LOAD_S) wrong.push(`${name}: ${keyOf(record)} failed after ${waited_s} s`);
      }
    }
    const verdicts = launch.stages.at(-1)!.out.filter((o) => o.line.includes('"kind":"verdict"'));
    if (verdicts.length !== 1) wrong.push(`${verdicts.length} verdicts`);
    if (ended - died > (KNOWN_S + WORK_S + LOAD_S) * 1000) wrong.push(`ended ${ended - died} ms after`);
    heal();
    // The next launch finds what this one left, and now and then nothing.
    if (plan === "guests.plan" || n % 8 === 7) {
      const razed = down(plan);
      if (razed.stdout !== "0 0 0 0\n") wrong.push(`down: ${razed.stdout}${razed.stderr}`);
    }
    return { what, wrong, longest_s };
  }

  test(`${ROUNDS} launches, a death in each: every record comes out, every stage ends, nothing waits longer than a death is unknown`, async () => {
    process.stdout.write(`    MT_TEST_SEED=${SEED}\n`);
    const began = Date.now();
    const wrong: string[] = [];
    let longest_s = 0;
    for (let n = 0; n < ROUNDS; n++) {
      const at = Date.now();
      const done = await round(n);
      longest_s = Math.max(longest_s, done.longest_s);
      if (process.env.MT_TEST_ROUNDS)
        process.stdout.write(
          `    ${done.what}: ${((Date.now() - at) / 1000).toFixed(1)} s, told after ${done.longest_s.toFixed(1)} s\n`,
        );
      wrong.push(...done.wrong.map((w) => `${done.what}: ${w}`));
    }
    process.stdout.write(
      `    ${ROUNDS} rounds in ${((Date.now() - began) / 1000).toFixed(0)} s; a record of who died failed after ${longest_s.toFixed(1)} s at most\n`,
    );
    expect(wrong, `MT_TEST_SEED=${SEED}`).toEqual([]);
  }, 1_500_000);

  test("afterwards up and down leave nothing behind", () => {
    heal();
    for (const plan of ["routers.plan", "guests.plan"])
      expect([plan, down(plan).stdout]).toEqual([plan, "0 0 0 0\n"]);
    expect(lab.sh("mt-tree down").code).toBe(0);
    expect(records(lab.sh("mt-status left --since before </dev/null").stdout)[0]).toMatchObject({
      left_behind: 0,
    });
    expect(lab.namespaces()).toEqual([]);
    expect(lab.guests().size).toBe(0);
  });

  test("mt-launch down forgets no plan whose hosts gave no word; when their tree is back it takes it down", () => {
    expect(lab.sh("mt-topo gen ring --routers 3 --id telm >ring.jsonl").code).toBe(0);
    expect(lab.sh("mt-launch up ring.jsonl --hosts 'tel[1-2]'").code).toBe(0);
    expect(lab.sh("mt-tree down").code).toBe(0);
    const plans = () =>
      readdirSync(join(lab.dir, "state/plans")).filter((f) => f.endsWith(".plan") || f.startsWith(".launch"));
    for (let twice = 0; twice < 2; twice++) {
      const silent = lab.sh("mt-launch down telm");
      expect(silent.code).toBe(1);
      expect(silent.stderr).toMatch(/Cannot reach hosts tel\[1-2\]: no tree is up here/);
      expect(silent.stderr).toMatch(/Cannot take all of telm down: no word from tel\[1-2\];/);
      expect(plans()).toEqual(["telm.plan"]);
    }
    expect(lab.sh("mt-tree up 'tel[1-2]'").code).toBe(0);
    const down = lab.sh("mt-launch down telm");
    expect([down.code, down.stderr, plans()]).toEqual([0, "", []]);
    // Forgotten only where that is asked for, with a message.
    expect(lab.sh("mt-launch up ring.jsonl --hosts 'tel[1-2]' && mt-tree down").code).toBe(0);
    const forced = lab.sh("mt-launch down telm --force");
    expect([forced.code, plans()]).toEqual([0, []]);
    expect(forced.stderr).toContain("telm is forgotten without a word from tel[1-2]");
    expect(lab.namespaces()).toEqual([]);
  });
});
