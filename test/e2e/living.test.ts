/**
 * Living with guests, on the compiled mt-boot and three real guests without a network: commands and files, consoles,
 * pause, reset, stats; and what goes wrong with each.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findProgram, isAlive } from "../../shared/host/process.ts";
import { Lab, type Rec, records, until } from "./lab.ts";

const EXPERIMENT = "mtteliving";
const TERMINAL = resolve(import.meta.dirname, "../fixtures/on-terminal.py");
const isRoot = process.getuid?.() === 0;

describe.skipIf(findProgram("qemu-system-x86_64").isErr() || !isRoot)(
  "three guests (needs QEMU and root)",
  () => {
    let lab: Lab;
    const sh = (line: string) => lab.sh(`export MT_HOST=mtte; ${line}`);
    /** A command that succeeds; its records. */
    const good = (line: string): Rec[] => {
      const done = sh(line);
      expect(done.code, `${line}\n${done.stdout}${done.stderr}`).toBe(0);
      return records(done.stdout);
    };
    /** A command that fails, with one record that says why. */
    const bad = (line: string, code = 1) => {
      const done = sh(line);
      expect(done.code, `${line}\n${done.stdout}${done.stderr}`).toBe(code);
      const [record] = records(done.stdout);
      return (record as { error?: { code: string; message: string; hint?: string } }).error!;
    };
    const stdout = (line: string) => good(line).map((r) => r.stdout);
    const dir = (guest: string) => join(lab.dir, "run/experiments", EXPERIMENT, "g", guest);
    const pidOf = (guest: string) =>
      existsSync(join(dir(guest), "pid")) ? readFileSync(join(dir(guest), "pid"), "utf8") : undefined;
    const supervisor = () =>
      JSON.parse(readFileSync(join(lab.dir, "run/experiments", EXPERIMENT, "boot.lock"), "utf8"))
        .pid as number;

    beforeAll(() => {
      lab = new Lab();
      lab.image();
      const lines = [
        { kind: "experiment", id: EXPERIMENT, version: 1, seed: 1 },
        { kind: "host", id: "mtte", addr: "10.0.0.1", cores: 2, mem_mib: 4000 },
        JSON.parse(readFileSync(join(lab.dir, "state/images/tux.json"), "utf8")),
        {
          kind: "guest",
          id: "g[0-2]",
          host: "mtte",
          index: 0,
          image: "tux",
          cores: 1,
          mem_mib: 128,
          interfaces: [],
        },
        { kind: "end", id: EXPERIMENT, counts: { guest: 3 } },
      ];
      writeFileSync(join(lab.dir, "plan"), lines.map((l) => `${JSON.stringify(l)}\n`).join(""));
      good("mt-boot up --accel tcg <plan");
    });
    afterAll(() => {
      sh(`mt-boot down --experiment ${EXPERIMENT}; mt-boot gc`);
      lab?.remove();
    });

    test("exec: at one time, folded, with stdin; an unknown guest is told", () => {
      const began = performance.now();
      expect(good("mt-boot exec --fold 'g[0-2]' -- sleep 4")).toMatchObject([{ id: "g[0-2]", code: 0 }]);
      expect(performance.now() - began).toBeLessThan(10_000);
      expect(stdout("printf 'a\\0b' | mt-boot exec --stdin g1 -- od -An -c")).toEqual(["   a  \\0   b\n"]);
      expect(bad("mt-boot exec g7 -- true")).toMatchObject({ hint: "here: g[0-2]" });
      expect(sh("mt-boot exec --stdin -- cat <plan").code).toBe(64);
    });

    test("exec on a stream: --jobs holds for all of it, however many records it is", () => {
      const [head, guests, end] = ["experiment", "guest", "end"].map((kind) =>
        records(readFileSync(join(lab.dir, "plan"), "utf8")).find((r) => r.kind === kind),
      );
      const singles = [0, 1, 2].map((n) => ({ ...guests, id: `g${n}`, index: Number(guests!.index) + n }));
      const lines = [head, ...singles, end].map((line) => `${JSON.stringify(line)}\n`).join("");
      writeFileSync(join(lab.dir, "singles"), lines);
      // One after another they sleep three seconds; all together it would be one.
      const began = performance.now();
      const told = good("mt-boot exec --only --jobs 1 -- sleep 1 <singles").filter((r) => r.kind === "exit");
      expect(performance.now() - began).toBeGreaterThan(3000);
      expect(told.map((r) => [r.id, r.code])).toEqual([
        ["g0", 0],
        ["g1", 0],
        ["g2", 0],
      ]);
    });

    test("exec, interrupted: what runs is ended in the guest, what waits for its turn never begins", async () => {
      const { child, done } = lab.start("mt-boot", [
        "exec",
        "--jobs",
        "1",
        "g[0-1]",
        "--",
        "sh",
        "-c",
        "echo x >/began; exec sleep 654",
      ]);
      await until("the command runs", () =>
        stdout("mt-boot exec g0 -- ls /")[0]!.toString().includes("began"),
      );
      child.kill("SIGINT");
      expect((await done).code).toBe(130);
      const running = () =>
        stdout("mt-boot exec 'g[0-1]' -- sh -c 'ls / | grep -c began; pidof sleep; true'").sort();
      await until("it is ended", () => running().join() === "0\n,1\n");
    });

    test("copy: names, bytes and permissions arrive, in many guests and back, on a stream too", () => {
      const name = "a b'$(x)\n-c";
      const bytes = randomBytes(400_000);
      writeFileSync(join(lab.dir, name), bytes);
      chmodSync(join(lab.dir, name), 0o640);
      writeFileSync(join(lab.dir, "empty"), "");
      const quoted = `'${name.replaceAll("'", "'\\''")}'`;
      const sent = good(`mt-boot copy ${quoted} empty 'g[0-2]:/tmp/'`);
      expect(sent.map((r) => [r.guest, r.code, r.bytes]).sort()).toEqual(
        ["g0", "g1", "g2"].map((g) => [g, 0, 400_000]),
      );
      expect(stdout("mt-boot exec --fold 'g[0-2]' -- ls -A /tmp")).toEqual([
        expect.not.stringContaining(".mt-"),
      ]);
      good(`mt-boot copy 'g[0-2]:/tmp/'${quoted} g[0-2]:/tmp/empty out`);
      for (const guest of ["g0", "g1", "g2"]) {
        const back = join(lab.dir, "out", guest, name);
        const digest = (b: Buffer) => createHash("sha256").update(b).digest("hex");
        expect(digest(readFileSync(back))).toBe(digest(bytes));
        expect(statSync(back).mode & 0o7777).toBe(0o640);
        expect(readdirSync(join(lab.dir, "out", guest)).sort()).toEqual([name, "empty"].sort());
      }
      const stream = good("mt-boot copy --from /etc/hostname out <plan");
      expect(stream.filter((r) => r.kind === "exit")).toHaveLength(3);
      expect(stream.filter((r) => r.kind === "guest")).toMatchObject([{ id: "g[0-2]" }]);
      expect(readFileSync(join(lab.dir, "out/g2/hostname"), "utf8")).toBe("g2\n");
      // It replaces what was there, and never moves into a directory of that name.
      good("mt-boot copy empty g0:/tmp/empty");
      expect(bad("mt-boot copy empty g0:/tmp").message).toContain("it is a directory");
    });

    test("copy: what cannot be copied is told by guest and file, and leaves nothing", () => {
      writeFileSync(join(lab.dir, "f"), "text");
      expect(bad("mt-boot copy g0:/nofile none").message).toBe("Cannot copy g0:/nofile: no such file");
      expect(bad("mt-boot copy g0:/dev/ttyS0 none").message).toContain("no regular file");
      expect(bad("mt-boot copy g0:/etc none").message).toContain("no regular file");
      expect(bad("mt-boot copy g0:/proc/uptime none").message).toContain("it changes while it is read");
      expect(readdirSync(join(lab.dir, "none"))).toEqual([]);
      expect(bad("mt-boot copy f g0:/none/f").message).toMatch(
        /^Cannot copy \/.*\/f to g0:\/none\/f: nonexistent directory$/,
      );
      expect(bad("mt-boot copy f g7:/tmp/").hint).toBe("here: g[0-2]");
      for (const [words, code] of [
        ["f g0:tmp", 64],
        ["f", 64],
        ["nofile g0:/tmp/", 65],
        ["/etc g0:/tmp/", 65],
        ["g0:/etc/.. out", 64],
        ["g0:/etc/hostname f", 65],
      ] as const)
        expect(sh(`mt-boot copy ${words}`), words).toMatchObject({ code, stdout: "" });
      const denied = bad("mkdir -p locked/g0/hostname; mt-boot copy g0:/etc/hostname locked");
      expect(denied.message).toMatch(/^Cannot copy g0:\/etc\/hostname: .*locked\/g0\/hostname/);
      expect(readdirSync(join(lab.dir, "locked/g0"))).toEqual(["hostname"]);
    });

    test("copy: a full disk here is 74, a full guest a failure; both are as before", () => {
      good("mt-boot exec g1 -- sh -c 'head -c 2000000 /dev/urandom >/tmp/big'");
      sh("mkdir tiny && mount -t tmpfs -o size=512k none tiny");
      try {
        const error = bad("mt-boot copy g1:/tmp/big tiny", 74);
        expect(error).toMatchObject({ code: "io", message: expect.stringContaining("no space left") });
        expect(readdirSync(join(lab.dir, "tiny"))).toEqual([]);
      } finally {
        sh("umount tiny");
      }
      good("mt-boot exec g1 -- sh -c 'mkdir /small; mount -t tmpfs -o size=512k none /small'");
      sh("mt-boot copy g1:/tmp/big out");
      expect(bad("mt-boot copy out/g1/big g1:/small/").message).toContain("No space left on device");
      expect(stdout("mt-boot exec g1 -- ls -A /small")).toEqual([""]);
    });

    test("a guest whose file system is full: exec, log and copies out of it work, and copies to where it has room", () => {
      const text = "a line of a log\n".repeat(20_000);
      good("mt-boot exec g1 -- sh -c 'mkdir /room; mount -t tmpfs -o size=8m none /room'");
      good(
        `mt-boot exec g1 -- sh -c 'yes "a line of a log" | head -n 20000 >/var/full.log; echo -n >/var/none'`,
      );
      // Full to the last byte: the agent's own files are on it too.
      const fill = "cat /dev/zero >/fill; echo x >/var/more; cat /var/more";
      expect(stdout(`mt-boot exec g1 -- sh -c '${fill} 2>/dev/null'`)).toEqual([""]);
      try {
        good("mt-boot copy g1:/var/full.log g1:/var/none full");
        expect(readFileSync(join(lab.dir, "full/g1/full.log"), "utf8")).toBe(text);
        expect(statSync(join(lab.dir, "full/g1/none")).size).toBe(0);
        good("mt-boot copy g1:/var/full.log g1:/sbin/qemu-ga full");
        const there = stdout("mt-boot exec g1 -- sha256sum /sbin/qemu-ga")[0]!.toString().split(" ")[0];
        const agent = readFileSync(join(lab.dir, "full/g1/qemu-ga"));
        expect(createHash("sha256").update(agent).digest("hex")).toBe(there);
        expect(sh("mt-boot log g1").code).toBe(0);
        expect(bad("mt-boot copy full/g1/full.log g1:/var/").message).toMatch(/: No space left on device$/);
        good("mt-boot copy full/g1/full.log g1:/room/");
        const summed = stdout("mt-boot exec g1 -- sha256sum /room/full.log")[0]!.toString().split(" ")[0];
        expect(summed).toBe(createHash("sha256").update(text).digest("hex"));
        expect(stdout("mt-boot exec g1 -- sh -c 'find / -xdev -name .mt-\\*'")).toEqual([""]);
      } finally {
        sh("mt-boot exec g1 -- sh -c 'rm -f /fill /var/full.log; umount /room'");
      }
    });

    test("copy, interrupted: nothing is left in the guest", async () => {
      sh("head -c 60000000 /dev/zero >zeros");
      const { child, done } = lab.start("mt-boot", ["copy", "zeros", "g0:/root/"]);
      const there = () => stdout("mt-boot exec g0 -- ls -A /root")[0];
      await until("it has begun", () => there() !== "");
      child.kill("SIGINT");
      expect((await done).code).toBe(130);
      await until("it is taken away", () => there() === "");
    });

    test("pause: as it stood, also where the supervisor dies; resume and up let it go on with the right time", async () => {
      // A name that mt-identity did not give: who is told anew who it is loses it.
      good("mt-boot exec g1 -- hostname another");
      expect(good("mt-boot pause 'g[0-1]'")).toMatchObject([{ id: "g[0-1]", state: "paused" }]);
      expect(bad("mt-boot exec g0 -- true")).toMatchObject({ hint: "mt-boot resume" });
      process.kill(supervisor(), "SIGKILL");
      expect(good("mt-boot ls --state paused")).toMatchObject([{ id: "g[0-1]" }]);
      expect(good("mt-boot ls g2")).toMatchObject([{ id: "g2", state: "ready" }]);
      await new Promise((r) => setTimeout(r, 3000));
      expect(good("mt-boot resume g1")).toMatchObject([{ id: "g1", state: "ready" }]);
      const [name, time] = stdout("mt-boot exec g1 -- sh -c 'hostname; date +%s'")[0]!.toString().split("\n");
      expect(name).toBe("another");
      expect(Math.abs(Number(time) - Date.now() / 1000)).toBeLessThan(2.5);
      expect(good("mt-boot up --only <plan")[0]).toMatchObject({ id: "g[0-2]", state: "ready" });
      expect(good("mt-boot pause --only <plan")).toMatchObject([{ id: "g[0-2]", state: "paused" }]);
      expect(good("mt-boot resume --only <plan")).toMatchObject([{ id: "g[0-2]", state: "ready" }]);
      const [here, gone] = records(sh("mt-boot pause 'g[2-4]'; mt-boot resume g2 >/dev/null").stdout);
      expect(here).toMatchObject({ id: "g2", state: "paused" });
      expect(gone).toMatchObject({ kind: "exit", id: "g[3-4]", state: "failed" });
    });

    test("reset: another QEMU, told anew who it is; counted; stats are the kernel's", () => {
      good("mt-boot exec g1 -- sh -c 'hostname another; touch /mark'");
      const before = ["g0", "g1"].map(pidOf);
      expect(good("mt-boot reset g1")).toMatchObject([{ id: "g1", state: "ready" }]);
      expect(pidOf("g0")).toBe(before[0]);
      expect(pidOf("g1")).not.toBe(before[1]);
      expect(stdout("mt-boot exec g1 -- sh -c 'hostname; ls / | grep -c mark; true'")).toEqual(["g1\n0\n"]);
      const [first, second] = good("mt-boot stats --each 'g[0-1]'");
      expect(second).toMatchObject({ kind: "sample", id: "g1", guest: "g1", guest_state: "ready" });
      expect(Number(second!.restarts)).toBeGreaterThan(Number(first!.restarts));
      expect(Number(second!.uptime_s)).toBeLessThan(Number(first!.uptime_s));
      expect(Number(second!.pss_mib)).toBeLessThan(Number(second!.rss_mib));
      const [sum] = good("mt-boot stats 'g[0-2]'");
      expect(sum).toMatchObject({ id: "guests", guests: 3, ready: 3, cpu_s: { min: expect.any(Number) } });
      expect(sh("mt-boot stats --human 'g[0-2]'").stdout).toMatch(/^MEASURE +ALL +MIN[\s\S]*pss_mib/);
      expect(bad("mt-boot reset g9").message).toBe("Cannot reset g9: the guest is not there");
    });

    const onTerminal = (steps: [string, string | number][], ...command: string[]) => {
      const done = spawnSync("python3", [TERMINAL, JSON.stringify(steps), ...command], {
        cwd: lab.dir,
        env: { ...lab.env, MT_HOST: "mtte" },
        encoding: "utf8",
        timeout: 60_000,
      });
      expect(done.status, done.stderr).toBe(0);
      return JSON.parse(done.stdout) as {
        output: string;
        code: number;
        changed: boolean;
        given_back: boolean;
      };
    };
    const ATTACHED = "Ctrl-] detaches";

    test("console: a shell on a terminal, Ctrl-C is the guest's, Ctrl-] detaches; the terminal comes back", () => {
      const session = onTerminal(
        [
          [ATTACHED, "\r"],
          ["/ # ", "echo $((6*7)) $(hostname); sleep 100\r"],
          ["42 g0", "\u0003"],
          ["/ # ", "\u001d"],
        ],
        "mt-boot",
        "console",
        "g0",
      );
      expect(session).toMatchObject({ code: 0, changed: true, given_back: true });
      expect(session.output).toContain("detached from the console of g0");
      // What was printed before comes first; another signal restores the terminal too.
      const again = onTerminal([[ATTACHED, 15]], "mt-boot", "console", "g0");
      expect(again).toMatchObject({ code: 143, changed: true, given_back: true });
      expect(again.output).toContain("42 g0");
    });

    test("console: of a guest that dies meanwhile; of one that somebody has; without a terminal", async () => {
      const before = pidOf("g2");
      const dies = onTerminal(
        [
          [ATTACHED, "\r"],
          ["/ # ", "echo c >/proc/sysrq-trigger\r"],
        ],
        "mt-boot",
        "console",
        "g2",
      );
      expect(dies).toMatchObject({ code: 1, given_back: true });
      expect(dies.output).toContain("Cannot stay on the console of g2: its QEMU ended");
      await until("it is started again", () => ![before, undefined].includes(pidOf("g2")));
      await until("it is ready", () => good("mt-boot ls g2")[0]!.state === "ready");

      expect(sh("printf '\\necho $((5*5)) $(hostname)\\n' | mt-boot console g2").stdout).toContain("25 g2");
      const first = spawn("mt-boot", ["console", "g1"], {
        env: lab.env,
        stdio: ["pipe", "ignore", "ignore"],
      });
      const ended = new Promise((r) => first.once("close", r));
      await until("it is attached", () => existsSync(join(dir("g1"), "tty.lock")));
      const second = sh("mt-boot console g1 </dev/null");
      expect(second).toMatchObject({ code: 75, stderr: expect.stringContaining("mt-boot console g1 (pid ") });
      first.stdin.end();
      expect(await ended).toBe(0);
      for (const [id, code] of [
        ["g9", 1],
        ["'g[0-1]'", 64],
        ["../x", 65],
      ] as const)
        expect(sh(`mt-boot console ${id} </dev/null`).code, id).toBe(code);
    });

    test("log: with names, followed through emptying and a new start until it is taken down", async () => {
      const say = (word: string) => good(`mt-boot exec 'g[0-1]' -- sh -c 'echo ${word} >/dev/ttyS0'`);
      say("first");
      expect(sh("mt-boot log g0").stdout).toContain("first\n");
      expect(sh("mt-boot log --lines 1 'g[0-1]'").stdout).toMatch(/^g0: .*first\ng1: .*first\n$/);
      const partly = sh("mt-boot log 'g[1-2],g9' --lines 1");
      expect(partly).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("the console of g9: the guest is not there"),
      });
      const [exit] = good("mt-boot log --only --lines 1 <plan");
      expect(exit).toMatchObject({
        kind: "exit",
        id: "g0",
        code: 0,
        stdout: expect.stringContaining("first"),
      });

      const { child, done } = lab.start("mt-boot", ["log", "--follow", "--lines", "0", "g[0-1]"]);
      let out = "";
      child.stdout!.on("data", (d) => (out += d));
      const told = (text: string) => until(text, () => out.includes(text));
      // QEMU appends, so what follows begins at the new start.
      say("second");
      await told("g1: second\n");
      truncateSync(join(dir("g1"), "console"), 0);
      say("third");
      await told("g1: third\n");
      expect(statSync(join(dir("g1"), "console")).size).toBe("third\r\n".length);
      good("mt-boot reset g1");
      say("fourth");
      await told("g1: fourth\n");
      expect(out).not.toContain("first");
      good("mt-boot down <plan");
      expect((await done).code).toBe(0);
    });

    test("MT_RUN is emptied under a living guest: it is not started again, and down ends what runs", async () => {
      const plan = readFileSync(join(lab.dir, "plan"), "utf8");
      writeFileSync(join(lab.dir, "one"), plan.replace('"g[0-2]"', '"g0"').replace('"guest":3', '"guest":1'));
      const lives = (pid: number) => isAlive(pid, "supervise");
      good("mt-boot down <plan");
      good("mt-boot up --accel tcg <one");
      const first = supervisor();
      sh("rm -rf run/*");
      process.kill(lab.guests().get("g0")!, "SIGKILL");
      await until("its supervisor ends", () => !lives(first));
      expect([...lab.guests().keys()]).toEqual([]);
      expect(readdirSync(join(lab.dir, "run"))).toEqual([]);

      good("mt-boot up --accel tcg <one");
      const second = supervisor();
      // So that it cannot find out by itself before it is ended.
      process.kill(second, "SIGSTOP");
      sh("rm -rf run/*");
      expect(good("mt-boot down --only <one")).toMatchObject([{ id: "g0", state: "stopped" }]);
      expect(lives(second)).toBe(false);
      expect([...lab.guests().keys()]).toEqual([]);
    });
  },
);
