/**
 * Memory runs out for guests of mt-boot in a memory cgroup of their own: each guest that dies is newer than
 * each that lives, each death is a record of `mt-boot watch`, and all come back when there is memory again.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Lab, records, until } from "../lab.ts";

const ID = "mttoom";
const GUESTS = 4;
/**
 * What each guest holds before memory runs out, and what the oldest then wants more at a time. The order holds between
 * guests that differ by less than a step, 0.9 of the limit over GUESTS - 1: the oldest is to stay within half of one.
 */
const FIRST_MIB = 24;
const MORE_MIB = 4;
const ROOM_MIB = 4;

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
const inGuests = (set: string, line: string) =>
  lab.sh(`mt-boot exec --experiment ${ID} ${set} -- ${line}`, 120).code;
const fill = (file: string, mib: number) => `dd if=/dev/urandom of=/${file} bs=1M count=${mib}`;
const scores = () =>
  [...lab.guests()]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([, pid]) => Number(readFileSync(`/proc/${pid}/oom_score_adj`, "utf8")));
const ready = () => records(lab.sh(`mt-boot ls --experiment ${ID}`).stdout).every((r) => r.state === "ready");

test("the newest guests die for the oldest, and come back when there is memory", async () => {
  cgroup = limit(8192).cgroup as string;
  expect(lab.sh("mt-boot up --only <plan", 170).code).toBe(0);
  expect(scores()).toEqual([100, 400, 700, 1000]);
  expect(inGuests(`'g[0-${GUESTS - 1}]'`, fill("dev/a", FIRST_MIB))).toBe(0);
  const before = lab.guests();
  const watch = lab.start("mt-boot", ["watch", "--experiment", ID]);
  let seen = "";
  watch.child.stdout!.on("data", (bytes) => (seen += bytes));
  await until("watch sees them all", () => seen.split('"state":"ready"').length > GUESTS);
  const mib = usedMib() + ROOM_MIB;
  limit(mib);
  // The oldest wants more than there is: its files are in memory.
  const step_mib = (0.9 * mib) / (GUESTS - 1);
  const g3Lives = () => lab.guests().get("g3") === before.get("g3");
  for (let more = 0; g3Lives(); more += MORE_MIB) {
    expect(more).toBeLessThan(step_mib / 2);
    expect(inGuests("g0", fill(`b${more}`, MORE_MIB))).toBe(0);
  }
  limit(8192);
  await until("all are back", () => lab.guests().size === GUESTS && ready(), 120);
  expect(scores()).toEqual([100, 400, 700, 1000]);
  const after = lab.guests();
  const all = [...before.keys()].sort();
  const died = all.filter((name) => after.get(name) !== before.get(name));
  // The kernel may kill one more before the first has released its memory, but never an older one before a newer one.
  expect(died).toEqual(all.slice(-died.length));
  expect(died).toContain("g3");
  expect(died).not.toContain("g0");
  for (const name of died)
    expect(readFileSync(`/proc/${after.get(name)}/cgroup`, "utf8")).toContain(cgroup.split("/").pop());
  expect(lab.sh(`mt-boot down --experiment ${ID}`).code).toBe(0);
  const lost = records((await watch.done).stdout).filter(
    (r) => r.state === "failed" && (r.error as { code: string }).code === "lost",
  );
  expect([...new Set(lost.map((r) => r.id))].sort()).toEqual(died);
  expect(lab.sh(`mt-ksm down --experiment ${ID}`).code).toBe(0);
  expect(existsSync(cgroup)).toBe(false);
}, 600_000);
