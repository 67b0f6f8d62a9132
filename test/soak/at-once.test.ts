/**
 * Every command twice at the same moment: launches, trees, pushes, image builds and downs, and an up beside a down, with
 * a shift between the two that a seed draws. Each ends as it would have alone, or says that another one is running.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Done, Lab, records } from "../e2e/lab.ts";

const SEED = Number(process.env.MT_TEST_SEED ?? 20) >>> 0;
/** Rounds in all, over the tests below. */
const ROUNDS = { launches: 4, guests: 1, same: 2, beside: 3, trees: 4, shared: 2, pushes: 3, images: 1 };
const TOLD_BUSY = /another mt-launch is at it|Cannot lock|holds it since|is there and is not of this tree/;

/** The same numbers for the same seed (mulberry32). */
function draws(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe.skipIf(process.getuid?.() !== 0)(
  `two at once, seed ${SEED} (needs root)`,
  { timeout: 300_000 },
  () => {
    let lab: Lab;
    const draw = draws(SEED);
    /** Both lines, the second after a shift of up to so many ms, or just when the first is. */
    async function both(lines: [string, string], shift_ms = 300): Promise<[Done, Done]> {
      const late = draw() < 0.5 ? 0 : draw() * shift_ms;
      const shifted = lines.map((line, k) => (k === 0 ? line : `sleep ${(late / 1000).toFixed(3)}; ${line}`));
      const [a, b] = await Promise.all(shifted.map((line) => lab.start("/bin/bash", ["-c", line]).done));
      return [a!, b!];
    }
    const codes = (done: [Done, Done]) => done.map((d) => [d.code, d.code === 0 ? "" : d.stderr]);
    const bothFine = (done: [Done, Done]) =>
      expect(codes(done)).toEqual([
        [0, ""],
        [0, ""],
      ]);
    /** One of them did it; the other may have ended with "busy". */
    function oneFine(done: [Done, Done]): void {
      for (const d of done)
        if (d.code !== 0) expect([d.code, d.stderr]).toEqual([75, expect.stringMatching(TOLD_BUSY)]);
      expect(done.some((d) => d.code === 0)).toBe(true);
    }
    const namespaces = () => lab.sh("ip netns list").stdout.match(/^mt[-:]tao\S*/gm) ?? [];
    const nothingLeft = () => {
      expect(namespaces()).toEqual([]);
      expect(existsSync(join(lab.dir, "run/tree"))).toBe(false);
      expect(readdirSync(join(lab.dir, "state/plans")).filter((f) => f !== ".share")).toEqual([]);
    };
    const LAUNCH = "--hosts 'tao[1-2]' --via local";
    const sendAway = (id: string) => `mt-launch down ${id}`;

    beforeAll(() => {
      lab = new Lab();
      lab.image();
      for (const id of ["aoa", "aob"]) {
        lab.sh(`mt-topo gen ring --routers 3 --id ${id} >${id}.plan`);
        lab.sh(`sed s/${id}/${id}-g/ ${id}.plan | mt-topo guests 2 --image tux >${id}-g.plan`);
      }
    });
    afterAll(() => {
      lab?.sh(
        "for id in aoa aob aoa-g aob-g; do mt-launch down $id; done; mt-tree down; MT_RUN=$PWD/other mt-tree down",
      );
      lab?.remove();
    });

    test("two launches of different experiments from no tree, and both down: the tree goes with the last", async () => {
      for (let round = 0; round < ROUNDS.launches; round++) {
        bothFine(await both([`mt-launch up aoa.plan ${LAUNCH}`, `mt-launch up aob.plan ${LAUNCH}`]));
        bothFine(await both([sendAway("aoa"), sendAway("aob")]));
        nothingLeft();
      }
    });

    test("with guests, of one image that no host has yet", async () => {
      for (let round = 0; round < ROUNDS.guests; round++) {
        bothFine(await both([`mt-launch up aoa-g.plan ${LAUNCH}`, `mt-launch up aob-g.plan ${LAUNCH}`]));
        bothFine(await both([sendAway("aoa-g"), sendAway("aob-g")]));
        nothingLeft();
      }
    });

    test("two launches of one experiment, two downs of it: one does it, the other is told or finds it done", async () => {
      for (let round = 0; round < ROUNDS.same; round++) {
        const up = `mt-launch up aoa.plan ${LAUNCH}`;
        oneFine(await both([up, up]));
        expect(lab.sh("mt-launch check aoa").code).toBe(0);
        oneFine(await both([sendAway("aoa"), sendAway("aoa")]));
        nothingLeft();
      }
    });

    test("an up beside a down, of another experiment and of the same one: what is up in the end is whole", async () => {
      for (let round = 0; round < ROUNDS.beside; round++) {
        expect(lab.sh(`mt-launch up aoa.plan ${LAUNCH}`).code).toBe(0);
        bothFine(await both([sendAway("aoa"), `mt-launch up aob.plan ${LAUNCH}`], 2_000));
        expect(lab.sh("mt-launch check aob").code).toBe(0);
        oneFine(await both([sendAway("aob"), `mt-launch up aob.plan ${LAUNCH}`], 2_000));
        if (existsSync(join(lab.dir, "state/plans/aob.plan")))
          expect(lab.sh("mt-launch check aob").code).toBe(0);
        expect(lab.sh(sendAway("aob")).code).toBe(0);
        nothingLeft();
      }
    });

    test("two ups of one tree, with other hosts each; two downs; an up beside a down", async () => {
      for (let round = 0; round < ROUNDS.trees; round++) {
        bothFine(await both(["mt-tree up 'tao[1-2]'", "mt-tree up 'tao[2-3]'"]));
        expect(
          records(lab.sh("mt-tree status --records").stdout)
            .map((r) => [r.id, r.state])
            .sort(),
        ).toEqual(["tao1", "tao2", "tao3"].map((h) => [h, "up"]));
        bothFine(await both(["mt-tree down", "mt-tree down"]));
        expect(namespaces()).toEqual([]);
        bothFine(await both(["mt-tree up tao1", "mt-tree down"]));
        if (namespaces().length > 0) expect(lab.sh("mt-tree exec tao1 -- true").code).toBe(0);
        expect(lab.sh("mt-tree down").code).toBe(0);
        expect(namespaces()).toEqual([]);
      }
    });

    test("two trees that share a name: one has it, the other is told, and the one is whole", async () => {
      const run = ["", `MT_RUN=${join(lab.dir, "other")} `];
      for (let round = 0; round < ROUNDS.shared; round++) {
        const done = await both([`${run[0]}mt-tree up 'tao[1-2]'`, `${run[1]}mt-tree up 'tao[2-3]'`]);
        const winner = done[0].code === 0 ? 0 : 1;
        expect(codes(done)[winner]).toEqual([0, ""]);
        expect(codes(done)[1 - winner]).toEqual([75, expect.stringMatching(TOLD_BUSY)]);
        expect(lab.sh(`${run[winner]}mt-tree exec @all -- true`).code).toBe(0);
        // The other has nothing, and takes nothing away.
        expect(lab.sh(`${run[1 - winner]}mt-tree down`).code).toBe(0);
        expect(lab.sh(`${run[winner]}mt-tree exec @all -- true`).code).toBe(0);
        expect(lab.sh(`${run[winner]}mt-tree down`).code).toBe(0);
        expect(namespaces()).toEqual([]);
      }
    });

    test("two pushes of the same images: every host has them whole, whoever brought them", async () => {
      const store = join(lab.dir, "state/store/sha256");
      mkdirSync(store, { recursive: true });
      const digests: string[] = [];
      for (let i = 0; i < 3; i++) {
        const bytes = Buffer.alloc((8 << i) * 2 ** 20, `file ${i} `);
        digests.push(createHash("sha256").update(bytes).digest("hex"));
        writeFileSync(join(store, digests[i]!), bytes);
      }
      const hosts = ["tao1", "tao2", "tao3"];
      const plan = [
        { kind: "experiment", id: "aop", version: 1, seed: 1 },
        ...digests.map((d, i) => {
          const files = { kernel: `sha256:${d}`, initrd: `sha256:${d}` };
          return { kind: "image", id: `i${i}`, hosts, os: "linux", fork: false, files };
        }),
        { kind: "end", id: "aop", counts: { image: 3 } },
      ];
      writeFileSync(join(lab.dir, "push.plan"), plan.map((r) => `${JSON.stringify(r)}\n`).join(""));
      expect(lab.sh("mt-tree up 'tao[1-3]' --fanout 1").code).toBe(0);
      for (let round = 0; round < ROUNDS.pushes; round++) {
        bothFine(await both(["mt-push --only <push.plan", "mt-push --only <push.plan"], 100));
        for (const host of hosts)
          for (const [i, d] of digests.entries()) {
            const file = join(lab.dir, "state/hosts", host, "store/sha256", d);
            const got = createHash("sha256").update(readFileSync(file)).digest("hex");
            expect([host, i, got]).toEqual([host, i, d]);
          }
        const left = lab.sh("find state/hosts/*/store -type f | wc -l").stdout.trim();
        expect(left).toBe("9");
        for (const host of hosts) rmSync(join(lab.dir, "state/hosts", host, "store"), { recursive: true });
      }
      expect(lab.sh("mt-tree down").code).toBe(0);
    });

    test("two builds of one image: the same image, whole", async () => {
      const build = "mt-image build tux --cache /var/lib/megatux/cache/packages";
      for (let round = 0; round < ROUNDS.images; round++) {
        rmSync(join(lab.dir, "state"), { recursive: true, force: true });
        const done = await both([build, build]);
        bothFine(done);
        const [a, b] = done.map((d) => records(d.stdout)[0]);
        expect(a).toEqual(b);
        for (const d of Object.values((a as unknown as { files: Record<string, string> }).files)) {
          const file = join(lab.dir, "state/store", d.replace(":", "/"));
          const got = createHash("sha256").update(readFileSync(file)).digest("hex");
          expect(`sha256:${got}`).toBe(d);
        }
        expect(lab.sh("find state/store -type f -name '.*' -o -name '*.new*'").stdout).toBe("");
      }
    });
  },
);
