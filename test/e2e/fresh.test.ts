/**
 * What may not be the same in guests that began with the same memory: clones of a template, of the same one a second
 * time, a guest that was saved and goes on, and those that are restored from its file. Every two of them are compared.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findProgram } from "../../shared/host/process.ts";
import { FRESH } from "../../tools/mt-boot/platforms/linux-x86/fresh.ts";
import { Lab, records, until } from "./lab.ts";

const EXPERIMENT = "mttefresh";
/** Draws bytes without a pause, each line on the console before the next is drawn. */
const DRAWER = `exec >/dev/ttyS0
while :; do hexdump -n 8 -e '8/1 "%02x" "\\n"' /dev/urandom; stty -F /dev/ttyS0 -echo; done`;
const ASK = `head -c 16 /dev/urandom | hexdump -e '16/1 "%02x" "\\n"'
cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/boot_id /etc/machine-id`;
const isRoot = process.getuid?.() === 0;

describe.skipIf(findProgram("qemu-system-x86_64").isErr() || !isRoot)(
  "guests of one memory (needs QEMU and root)",
  () => {
    let lab: Lab;
    const sh = (line: string) => lab.sh(`export MT_HOST=mttefresh; ${line}`);
    const good = (line: string) => {
      const done = sh(line);
      expect(done.code, `${line}\n${done.stdout}${done.stderr}`).toBe(0);
      return records(done.stdout);
    };

    /** What each guest that ever ran said: of all, no two may have said the same. */
    const said: Record<"urandom" | "uuid" | "boot_id" | "machine_id", [who: string, value: string][]> = {
      urandom: [],
      uuid: [],
      boot_id: [],
      machine_id: [],
    };
    const ask = (who: string, set: string, machine_is_new: boolean) => {
      const exits = good(
        `printf '%s' '${ASK.replaceAll("'", `'\\''`)}' | mt-boot exec --stdin '${set}' -- sh`,
      );
      for (const { guest, stdout } of exits) {
        const [urandom, uuid, boot_id, again, machine_id] = String(stdout).split("\n") as [
          string,
          string,
          string,
          string,
          string,
        ];
        expect(again).toBe(boot_id);
        expect(boot_id).toMatch(/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/);
        const name = `${who} ${guest}`;
        said.urandom.push([name, urandom]);
        said.uuid.push([name, uuid]);
        said.boot_id.push([name, boot_id]);
        if (machine_is_new) said.machine_id.push([name, machine_id]);
        else expect(said.machine_id.map(([, id]) => id)).toContain(machine_id);
      }
    };
    const clockIsRight = (guest: string) => {
      const before = Date.now() / 1000;
      const time = Number(good(`mt-boot exec ${guest} -- date +%s`)[0]!.stdout);
      expect(time).toBeGreaterThan(before - 2);
      expect(time).toBeLessThan(Date.now() / 1000 + 1);
    };
    const console_of = (guest: string) =>
      readFileSync(join(lab.dir, "run/experiments", EXPERIMENT, "g", guest, "console"), "utf8");
    const drawn = (guest: string): string[] => console_of(guest).match(/^[0-9a-f]{16}(?=\r?\n)/gm) ?? [];

    beforeAll(() => {
      lab = new Lab();
      lab.image();
      const guest = { kind: "guest", host: "mttefresh", index: 0, image: "tux", cores: 1, mem_mib: 128 };
      const plan = [
        { kind: "experiment", id: EXPERIMENT, version: 1, seed: 1 },
        JSON.parse(readFileSync(join(lab.dir, "state/images/tux.json"), "utf8")),
        { ...guest, id: "g[0-2]", interfaces: [] },
        { kind: "end", id: EXPERIMENT, counts: { guest: 3 } },
      ];
      writeFileSync(join(lab.dir, "plan"), plan.map((line) => `${JSON.stringify(line)}\n`).join(""));
    });
    afterAll(() => {
      sh(`mt-boot down --experiment ${EXPERIMENT}; mt-boot gc`);
      lab?.remove();
    });

    test("clones, also of a template that is used again", () => {
      for (const time of ["first", "second"]) {
        expect(good("mt-boot up --boot fork --accel tcg --only <plan").at(-1)).toMatchObject({ forked: 3 });
        ask(time, "g[0-2]", true);
        if (time === "first") good("mt-boot down --only <plan");
      }
    });

    test("one that was saved and goes on, and two that are restored: from their first byte on", async () => {
      good(
        `printf '%s' '${DRAWER.replaceAll("'", `'\\''`)}' | mt-boot exec --stdin g0 -- sh -c 'cat >/tmp/drawer; setsid sh /tmp/drawer >/dev/null 2>&1 </dev/null &'`,
      );
      await until("it draws", () => drawn("g0").length > 10);
      const before = drawn("g0").length;
      good("mt-boot save saved g0");
      clockIsRight("g0");
      await until("it goes on", () => drawn("g0").length > before + 10);
      ask("goes on", "g0", false);
      const all: string[][] = [drawn("g0")];
      for (const time of ["first restore", "second restore"]) {
        good(`mt-boot down --experiment ${EXPERIMENT}`);
        expect(good("mt-boot restore saved")).toMatchObject([{ id: "g0", state: "ready" }]);
        clockIsRight("g0");
        await until("it goes on", () => drawn("g0").length > 10);
        ask(time, "g0", false);
        all.push(drawn("g0"));
      }
      // One line may have been on its way to the console when all of it was stopped.
      for (const [i, one] of all.entries())
        for (const other of all.slice(i + 1))
          expect(one.filter((line) => other.includes(line)).length).toBeLessThanOrEqual(1);
    }, 480_000);

    test("restored while it is stopped, it is made fresh when it goes on; paused and resumed, it is the same boot", () => {
      good("mt-boot pause g0; mt-boot save stopped g0");
      good(`mt-boot down --experiment ${EXPERIMENT}`);
      expect(good("mt-boot restore stopped")).toMatchObject([{ id: "g0", state: "paused" }]);
      expect(good("mt-boot resume g0")).toMatchObject([{ id: "g0", state: "ready" }]);
      ask("restored while stopped", "g0", false);
      good("mt-boot pause g0; mt-boot resume g0");
      clockIsRight("g0");
      const [exit] = good("mt-boot exec g0 -- cat /proc/sys/kernel/random/boot_id");
      expect(exit!.stdout).toBe(`${said.boot_id.at(-1)![1]}\n`);
    });

    test("no two of them have said the same", () => {
      for (const [what, values] of Object.entries(said)) {
        // The one that goes on is the boot that it was.
        const boots = what === "boot_id" ? values.filter(([who]) => who !== "goes on g0") : values;
        expect(boots.length).toBeGreaterThanOrEqual(6);
        const same = boots.filter(([, value], i) => boots.findIndex(([, other]) => other === value) !== i);
        expect(same, what).toEqual([]);
        for (const [who, value] of boots) expect(value, `${what} of ${who}`).not.toBe("");
      }
    });

    test("the list says of each what it is for", () => {
      expect(FRESH.map(({ on }) => on.length > 0)).not.toContain(false);
      for (const { what, why, calls, command } of FRESH) {
        expect(what.length > 0 && why.length > 0).toBe(true);
        expect((calls === undefined) !== (command === undefined), what).toBe(true);
      }
    });
  },
);
