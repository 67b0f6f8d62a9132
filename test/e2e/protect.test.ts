/**
 * Memory runs out under guests that mt-boot looks after, in a memory cgroup of their own: only the newest die, each
 * death is a record of `mt-boot watch`, none is started again in an older one's place, and all come back when there
 * is memory again.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Lab, records, until } from "./lab.ts";

const ID = "mttoom";
const GUESTS = 4;

let lab: Lab;
let cgroup: string;

beforeAll(() => {
  lab = new Lab();
  lab.env.MT_HOST = "mtt-oom";
  lab.image();
  const image = {
    ...JSON.parse(readFileSync(join(lab.dir, "state/images/tux.json"), "utf8")),
    hosts: ["mtt-oom"],
  };
  const guest = {
    kind: "guest",
    host: "mtt-oom",
    index: 0,
    image: "tux",
    cores: 1,
    mem_mib: 128,
    interfaces: [],
  };
  const plan = [
    { kind: "experiment", id: ID, version: 1, seed: 1 },
    image,
    { ...guest, id: `g[0-${GUESTS - 1}]` },
    { kind: "end", id: ID, counts: { image: 1, guest: GUESTS } },
  ];
  writeFileSync(join(lab.dir, "plan"), plan.map((r) => `${JSON.stringify(r)}\n`).join(""));
}, 180_000);
afterAll(() => {
  lab.sh(`mt-boot down --experiment ${ID}; mt-ksm down --experiment ${ID}`);
  lab.remove();
}, 120_000);

const limit = (mib: number) => records(lab.sh(`mt-ksm protect --only --memory ${mib} <plan`).stdout)[0]!;
const usedMib = () => {
  const file = ["memory.usage_in_bytes", "memory.current"].map((f) => join(cgroup, f)).find(existsSync)!;
  return Math.ceil(Number(readFileSync(file, "utf8")) / 1024 / 1024);
};
const scores = () =>
  [...lab.guests()]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([, pid]) => Number(readFileSync(`/proc/${pid}/oom_score_adj`, "utf8")));
const ready = () => records(lab.sh(`mt-boot ls --experiment ${ID}`).stdout).every((r) => r.state === "ready");

test("the newest guests die for the oldest, and come back when there is memory", async () => {
  cgroup = limit(8192).cgroup as string;
  expect(lab.sh("mt-boot up --only <plan", 170).code).toBe(0);
  expect(scores()).toEqual([100, 400, 700, 1000]);
  const before = lab.guests();
  const watch = lab.start("mt-boot", ["watch", "--experiment", ID]);
  limit(usedMib() + 8);
  // The oldest wants more: its file is in memory.
  lab.sh(`mt-boot exec --experiment ${ID} g0 -- dd if=/dev/urandom of=/x bs=1M count=28`, 60);
  await until("g3 has died", () => lab.guests().get("g3") !== before.get("g3"));
  expect(lab.guests().get("g0")).toBe(before.get("g0"));
  expect(lab.guests().get("g1")).toBe(before.get("g1"));
  limit(8192);
  await until("all are back", () => lab.guests().size === GUESTS && ready(), 120);
  expect(scores()).toEqual([100, 400, 700, 1000]);
  for (const [name, pid] of lab.guests())
    if (pid !== before.get(name))
      expect(readFileSync(`/proc/${pid}/cgroup`, "utf8")).toContain(cgroup.split("/").pop());
  expect(lab.sh(`mt-boot down --experiment ${ID}`).code).toBe(0);
  const said = records((await watch.done).stdout);
  const died = said.filter((r) => r.state === "failed" && (r.error as { code: string }).code === "lost");
  expect(died.map((r) => r.id)).toContain("g3");
  expect(died.every((r) => r.id === "g3" || r.id === "g2")).toBe(true);
  expect(lab.sh(`mt-ksm down --experiment ${ID}`).code).toBe(0);
  expect(existsSync(cgroup)).toBe(false);
}, 600_000);
