/**
 * Hostile guests, and dead ones: halted, hung, without an agent, with a stopped QEMU. What a
 * guest costs its host has a limit, its state is right within a known time, and its neighbour, on the
 * same supervisor, notices nothing. On the compiled mt-boot and mt-vnet.
 */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bridgeName } from "../../shared/host/names.ts";
import { findProgram } from "../../shared/host/process.ts";
import { LOG_BYTES_HARD, LOG_BYTES_MAX } from "../../tools/mt-boot/supervisor/log-end.ts";
import { Lab, records, until } from "./lab.ts";

const EXPERIMENT = "mttehostile";
/** Of a supervisor with three guests, whatever they send: it takes some 60 MiB. */
const SUPERVISOR_MIB_MAX = 200;
const ANSWER_S = 10;
/** The bad guest, and its neighbour. */
const [BAD, GOOD] = ["g0", "g1"];
const isRoot = process.getuid?.() === 0;

describe.skipIf(findProgram("qemu-system-x86_64").isErr() || !isRoot)(
  "hostile and dead guests (needs QEMU and root)",
  () => {
    let lab: Lab;
    const sh = (line: string) => lab.sh(`export MT_HOST=mttehostile; ${line}`);
    const good = (line: string) => {
      const done = sh(line);
      expect(done.code, `${line}\n${done.stdout}${done.stderr}`).toBe(0);
      return records(done.stdout);
    };
    const dir = (guest: string) => join(lab.dir, "run/experiments", EXPERIMENT, "g", guest);
    const log = () => readFileSync(join(lab.dir, "run/experiments", EXPERIMENT, "boot.log"), "utf8");
    const supervisor = () =>
      JSON.parse(readFileSync(join(lab.dir, "run/experiments", EXPERIMENT, "boot.lock"), "utf8"))
        .pid as number;
    const stateOf = (guest: string) => good(`mt-boot ls ${guest}`)[0]!;
    /** Runs a shell script in a guest, and leaves it running. */
    const leave = (guest: string, script: string) =>
      good(
        `printf '%s' '${script.replaceAll("'", `'\\''`)}' | mt-boot exec --stdin ${guest} -- sh -c 'cat >/tmp/s; setsid sh /tmp/s >/dev/null 2>&1 </dev/null &'`,
      );
    const neighbourAnswers = () =>
      expect(good(`mt-boot exec --timeout 60 ${GOOD} -- echo here`)).toMatchObject([{ stdout: "here\n" }]);
    const restarts = (guest: string) => Number(good(`mt-boot stats --each ${guest}`)[0]!.restarts);
    const supervisorCosts = () => {
      const status = readFileSync(`/proc/${supervisor()}/status`, "utf8");
      const stat = readFileSync(`/proc/${supervisor()}/stat`, "utf8").split(") ")[1]!.split(" ");
      return {
        mib: Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024,
        files: readdirSync(`/proc/${supervisor()}/fd`).length,
        cpu_s: (Number(stat[11]) + Number(stat[12])) / 100,
      };
    };

    beforeAll(() => {
      lab = new Lab();
      lab.image();
      const plan = [
        { kind: "experiment", id: EXPERIMENT, version: 1, seed: 1 },
        JSON.parse(readFileSync(join(lab.dir, "state/images/tux.json"), "utf8")),
        { kind: "segment", id: "lan", hosts: ["mttehostile"], vni: 1, prefix: "10.1.0.0/16" },
        {
          ...{ kind: "guest", id: "g[0-2]", host: "mttehostile", index: 0, image: "tux" },
          ...{ cores: 1, mem_mib: 128, interfaces: [{ segment: "lan", ip: "10.1.0.10/16" }] },
        },
        { kind: "end", id: EXPERIMENT, counts: { segment: 1, guest: 3 } },
      ];
      writeFileSync(join(lab.dir, "plan"), plan.map((line) => `${JSON.stringify(line)}\n`).join(""));
      good("mt-vnet up <plan >/dev/null");
      good(`mt-boot up --accel tcg --answer-timeout ${ANSWER_S} --only <plan`);
    });
    afterAll(() => {
      sh(`mt-boot down --experiment ${EXPERIMENT}; mt-vnet down --experiment ${EXPERIMENT}; mt-boot gc`);
      lab?.remove();
    });

    /** A guest that was made dead fails with the reason, and comes up again; its neighbour is not disturbed. */
    const comesBack = async (why: RegExp, before: { restarts: number; neighbour: number }) => {
      await until("it is said", () => why.test(log()), 90);
      await until(
        "it is up again",
        () => stateOf(BAD).state === "ready" && restarts(BAD) > before.restarts,
        120,
      );
      expect(restarts(GOOD)).toBe(before.neighbour);
      writeFileSync(join(lab.dir, "run/experiments", EXPERIMENT, "boot.log"), "");
    };
    const now = () => ({ restarts: restarts(BAD), neighbour: restarts(GOOD) });
    const said = (what: string) =>
      new RegExp(`${BAD}: Cannot keep ${BAD} running: ${what} for ${ANSWER_S} s`);

    test("halted: it is started again, and watch tells", async () => {
      const before = now();
      const watch = lab.start("mt-boot", ["watch", "--experiment", EXPERIMENT]);
      let seen = "";
      watch.child.stdout!.on("data", (bytes) => (seen += bytes));
      leave(BAD, "sleep 1; halt -f");
      await comesBack(said("its agent has not answered"), before);
      watch.child.kill();
      expect(seen).toMatch(/"id":"g0"[^\n]*"state":"failed","error":{"by":"mt-boot","code":"timeout"/);
    });

    test("its QEMU stands still; its agent does; its kernel has panicked and does not reboot", async () => {
      for (const [what, make] of [
        [
          "its QEMU has not answered",
          () => process.kill(Number(readFileSync(join(dir(BAD), "pid"), "utf8")), "SIGSTOP"),
        ],
        ["its agent has not answered", () => leave(BAD, "sleep 1; kill -STOP $(pidof qemu-ga)")],
        [
          "its agent has not answered",
          () => leave(BAD, "echo 0 >/proc/sys/kernel/panic; sleep 1; echo c >/proc/sysrq-trigger"),
        ],
      ] as const) {
        const before = now();
        make();
        await comesBack(said(what), before);
      }
    });

    test("one that is busy, and one whose command takes longer than it may be silent, are left alone", () => {
      const before = now();
      leave(BAD, "while :; do :; done & while :; do :; done & while :; do :; done");
      expect(good(`mt-boot exec --timeout 60 '${BAD},${GOOD}' -- sleep ${2 * ANSWER_S}`)).toHaveLength(2);
      expect(now()).toEqual(before);
      good(`mt-boot pause ${BAD}`);
      good(`mt-boot exec --timeout 60 ${GOOD} -- sleep ${2 * ANSWER_S}`);
      expect(stateOf(BAD).state).toBe("paused");
      good(`mt-boot resume ${BAD}`);
      expect(now()).toEqual(before);
      good(`mt-boot reset ${BAD}`);
    });

    test("a console that is flooded: its log has an end, and keeps it; the kernel bounds it where nobody looks", async () => {
      const size = () => statSync(join(dir(BAD), "console")).size;
      const step_ms = 5000;
      leave(BAD, "while :; do dmesg; done >/dev/ttyS0");
      await until("it has been cut", () => size() > LOG_BYTES_MAX / 2, 120);
      let largest = 0;
      for (const end = Date.now() + step_ms; Date.now() < end; await new Promise((r) => setTimeout(r, 20)))
        largest = Math.max(largest, size());
      expect(largest).toBeLessThanOrEqual(LOG_BYTES_HARD);
      expect(sh(`mt-boot log --lines 5 ${BAD}`).stdout.split("\n").length).toBeGreaterThanOrEqual(5);
      neighbourAnswers();
      // Nobody cuts it any more.
      process.kill(supervisor(), "SIGKILL");
      await until("it is full", () => size() >= LOG_BYTES_HARD, 180);
      await new Promise((r) => setTimeout(r, 1000));
      expect(size()).toBe(LOG_BYTES_HARD);
      expect(stateOf(BAD).state).toBe("ready");
      await until("it is cut", () => size() <= LOG_BYTES_MAX, 30);
      good(`mt-boot reset ${BAD}`);
    }, 480_000);

    test("ports that are flooded: the supervisor does not grow, nor spin, and the guest is taken for what it is", async () => {
      const before = now();
      const costs = supervisorCosts();
      // What root in the guest can do: no agent, and endless bytes, without newlines or meaning, on both ports.
      leave(
        BAD,
        `sleep 1
for p in /dev/virtio-ports/*; do for f in /proc/[0-9]*/fd/*; do :; done; done
mount --bind /bin/true /sbin/qemu-ga; mount --bind /bin/true /sbin/mt-syscalls
kill -9 $(pidof qemu-ga mt-syscalls)
for port in /dev/virtio-ports/*; do (while :; do cat /dev/zero >$port; done) & done
wait`,
      );
      let most = costs;
      await until(
        "it is said",
        () => {
          const { mib, files } = supervisorCosts();
          most = { ...most, mib: Math.max(most.mib, mib), files: Math.max(most.files, files) };
          return said("its agent has not answered").test(log());
        },
        90,
      );
      neighbourAnswers();
      await comesBack(said("its agent has not answered"), before);
      expect(most.mib).toBeLessThan(SUPERVISOR_MIB_MAX);
      expect(most.files).toBeLessThan(costs.files + 10);
    });

    test("output without an end: 256 KiB of it, and the supervisor stays as it is", () => {
      const [exit] = good(
        `mt-boot exec --timeout 120 ${BAD} -- sh -c 'head -c 12000000 /dev/zero | tr "\\0" x'`,
      );
      expect(exit).toMatchObject({ code: 0, truncated: true });
      expect(String(exit!.stdout).length).toBe(256 * 1024);
      expect(supervisorCosts().mib).toBeLessThan(SUPERVISOR_MIB_MAX);
      neighbourAnswers();
    });

    test("frames from ever another MAC, sent in the guest, add nothing to its host's table", () => {
      const bridge = bridgeName(EXPERIMENT, "lan");
      const table = () => sh(`bridge fdb show br ${bridge} | wc -l`).stdout.trim();
      const before = table();
      const [exit] = good(
        `mt-boot exec --timeout 120 ${BAD} -- sh -c 'i=10; while [ $i -lt 60 ]; do ip link set eth0 address 02:ee:00:00:00:$i && arping -q -c 1 -w 1 -I eth0 10.1.0.11; i=$((i+1)); done; cat /sys/class/net/eth0/statistics/tx_packets'`,
      );
      expect(Number(exit!.stdout)).toBeGreaterThanOrEqual(50);
      expect(table()).toBe(before);
      good(`mt-boot reset ${BAD}`);
    });
  },
);
