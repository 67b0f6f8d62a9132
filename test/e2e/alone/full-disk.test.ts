/**
 * Taking down where everything else is broken: MT_RUN and MT_STATE on small file systems that are full, the ledger,
 * the template, the routers' directories gone or damaged, the supervisor dead or frozen. Whatever it is, the first
 * `down` of each tool ends with 0, and the kernel has nothing left of the experiment. On the compiled tools.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Lab, records, until } from "../lab.ts";

const EXPERIMENT = "mtfulldisk";
const HOST = "tdf0";
const DOWN = ["mt-boot", "mt-route", "mt-vnet", "mt-ksm"];

describe.skipIf(process.getuid?.() !== 0)("a full disk (needs root)", () => {
  let lab: Lab;
  const sh = (line: string, timeout_s?: number) => lab.sh(`export MT_HOST=${HOST}; ${line}`, timeout_s);
  const good = (line: string) => {
    const done = sh(line);
    expect(done.code, `${line}\n${done.stdout}${done.stderr}`).toBe(0);
    return done.stdout;
  };
  const at = (path: string) => join(lab.dir, "run/experiments", EXPERIMENT, path);

  /** A plan of three routers in a ring, all with a guest where guests are wanted, on these hosts. */
  const plan = (id: string, hosts: readonly string[], guests: number) => {
    const lines = hosts.map((host, i) =>
      JSON.stringify({ kind: "host", id: host, addr: `127.0.0.${i + 1}`, cores: 2, mem_mib: 4000 }),
    );
    writeFileSync(join(lab.dir, "hosts"), `${lines.join("\n")}\n`);
    const crowd = guests > 0 ? `| mt-topo guests ${guests} --image tux` : "";
    good(`mt-topo gen ring --routers 3 --id ${id} ${crowd} | mt-topo place hosts >plan`);
  };

  /** No room for another byte, or another file: the file system is made as small as what is in it. */
  const fill = (what: "size" | "nr_inodes", ...places: string[]) => {
    for (const place of places) {
      const used = Number(good(`df --output=${what === "size" ? "used" : "iused"} ${place} | tail -n 1`));
      // A size of no bytes, or of no files, would be without a limit.
      good(`mount -o remount,${what}=${Math.max(used, 1)}${what === "size" ? "k" : ""} ${place}`);
      expect(sh(`head -c 8192 /dev/zero >${place}/more`).code, `${place} is full`).not.toBe(0);
      rmSync(join(lab.dir, place, "more"), { force: true });
    }
  };
  const roomy = () =>
    good("for place in run state; do mount -o remount,size=600m,nr_inodes=100k $place; done");

  /** What the kernel has of this lab: processes, namespaces of hosts and routers, bridges and taps. */
  const living = () =>
    [
      ...[...lab.guests().keys()].map((name) => `QEMU of ${name}`),
      ...good(
        `for pid in $(pgrep -x bird; pgrep -f '[m]t-(boot|tree|route|ksm) ?'); do
           grep -qs ${lab.dir} /proc/$pid/environ /proc/$pid/cmdline && tr '\\0' ' ' </proc/$pid/cmdline && echo; done; true`,
      ).split("\n"),
      ...good("ip netns list")
        .split("\n")
        .filter((name) => /\b(mt[:-])tdf/.test(name)),
      ...((records(sh("mt-status left --since before </dev/null").stdout)[0]!.left as string[]) ?? []),
    ].filter(Boolean);

  beforeAll(() => {
    lab = new Lab();
    // The template of its guests too: one of the tests takes it away.
    lab.env.MT_CACHE = join(lab.dir, "cache");
    for (const place of ["run", "state"]) {
      mkdirSync(join(lab.dir, place), { mode: 0o700 });
      good(`mount -t tmpfs -o mode=700,size=600m tmpfs ${place}`);
    }
    mkdirSync(join(lab.dir, "small"), { mode: 0o700 });
    good("mount -t tmpfs -o mode=700,size=200k tmpfs small");
    lab.image();
    good("mt-status snapshot >before");
  });
  afterAll(() => {
    sh(
      "for place in run state small; do ! mountpoint -q $place || mount -o remount,size=600m,nr_inodes=100k $place; done",
    );
    sh(
      `mt-boot down --experiment ${EXPERIMENT}; mt-boot gc; mt-vnet down --experiment ${EXPERIMENT}; mt-ksm down --experiment ${EXPERIMENT}; mt-tree down; MT_RUN=$PWD/small mt-tree down`,
    );
    sh("for place in run state small; do ! mountpoint -q $place || umount -l $place; done");
    lab?.remove();
  });

  describe("with a network and its guests up", () => {
    const helpers: ChildProcess[] = [];
    beforeEach(() => {
      roomy();
      plan(EXPERIMENT, [HOST], 3);
      // Routes need not have converged: that takes seconds, and nothing here is about it.
      good(
        "mt-vnet up <plan | mt-boot up --accel tcg | mt-ksm settle --timeout 1 | mt-route up --timeout 1 >up 2>/dev/null; true",
      );
      const guests = records(readFileSync(join(lab.dir, "up"), "utf8")).filter((r) => r.kind === "guest");
      expect(guests.map((r) => r.state)).toEqual(["ready", "ready", "ready"]);
      expect(living().filter((what) => /^\S*bird /.test(what))).toHaveLength(3);
    });
    afterEach(() => {
      for (const helper of helpers.splice(0)) helper.kill("SIGKILL");
    });

    const supervisor = () => Number(JSON.parse(readFileSync(at("boot.lock"), "utf8")).pid);
    const ledger = () => at("boot.sqlite");
    const without = {
      "bytes, a damaged ledger, a frozen supervisor": () => {
        process.kill(supervisor(), "SIGSTOP");
        fill("size", "run", "state");
        writeFileSync(ledger(), "x".repeat(100));
      },
      "files, no ledger, a killed supervisor": () => {
        process.kill(supervisor(), "SIGKILL");
        for (const end of ["", "-wal", "-shm"]) rmSync(ledger() + end, { force: true });
        fill("nr_inodes", "run", "state");
      },
      "bytes, a ledger that another has locked": async () => {
        fill("size", "run", "state");
        const other = spawn(
          "python3",
          [
            "-c",
            `import sqlite3, time; c = sqlite3.connect(${JSON.stringify(ledger())}); c.execute("begin exclusive"); print("locked", flush=True); time.sleep(300)`,
          ],
          { stdio: ["ignore", "pipe", "inherit"] },
        );
        helpers.push(other);
        let said = "";
        other.stdout!.on("data", (data) => (said += data));
        await until("the lock", () => said.includes("locked"));
        process.kill(supervisor(), "SIGKILL");
      },
      "neither a template nor a router's directory, with the supervisor alive": () => {
        fill("size", "run", "state");
        rmSync(join(lab.dir, "cache/templates"), { recursive: true, force: true });
        rmSync(at("r"), { recursive: true, force: true });
      },
    };

    test.each(Object.entries(without))("down needs: %s", async (_what, damage) => {
      await damage();
      for (const tool of DOWN) {
        const done = sh(`${tool} down <plan`, 60);
        expect([tool, done.code, done.stderr]).toEqual([tool, 0, ""]);
        expect(records(done.stdout).filter((r) => r.state === "failed")).toEqual([]);
      }
      expect(living()).toEqual([]);
      expect(existsSync(at("g"))).toBe(false);
    });
  });

  test("mt-launch down and mt-tree down need no room, with agents alive", () => {
    roomy();
    good(`mt-tree up 'tdf[1-2]' --via local && mt-topo gen ring --routers 3 --id ${EXPERIMENT} >ring`);
    good("mt-launch up ring");
    fill("size", "run", "state");
    fill("nr_inodes", "run", "state");
    const launch = sh(`mt-launch down ${EXPERIMENT}`, 60);
    expect([launch.code, launch.stderr]).toEqual([0, ""]);
    // This made a little room: none of it is to be needed.
    fill("size", "run", "state");
    fill("nr_inodes", "run", "state");
    const tree = sh("mt-tree down", 60);
    expect([tree.code, tree.stderr]).toEqual([0, ""]);
    expect(living()).toEqual([]);
  });

  test("mt-launch up on a disk that is too small says at once which it is, and down ends with 0", () => {
    roomy();
    const small = (line: string) => sh(`export MT_RUN=$PWD/small; ${line}`, 60);
    good(`mt-topo gen ring --routers 3 --id ${EXPERIMENT} >ring`);
    const up = small("mt-launch up ring --hosts 'tdf[1-2]' --guests 3");
    expect(up.code, up.stderr).toBeGreaterThan(0);
    expect(up.stderr).toMatch(/disk is full/);
    expect(up.stderr).toContain(`Cannot write ${join(lab.dir, "small/")}`);
    expect(up.stderr).not.toMatch(/a database|a file:/);
    const down = small(`mt-launch down ${EXPERIMENT}`);
    expect([down.code, down.stderr]).toEqual([0, ""]);
    expect(small("mt-tree down").code).toBe(0);
    expect(living()).toEqual([]);
  });
});
