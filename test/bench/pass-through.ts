/** Records a second through a filter that owns none of them, beside jq (which parses and prints) and cat (which only copies). */
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DIST, has, median, report } from "./measure.ts";

const RECORDS = 1_000_000;
const BYTES = 150;
const ROUNDS = 5;

const dir = mkdtempSync(join(tmpdir(), "mt-bench-"));
const file = join(dir, "in.jsonl");
const fd = openSync(file, "w");
for (let from = 0; from < RECORDS; from += 10_000) {
  let text = "";
  for (let i = from; i < from + 10_000; i++) {
    const record = `{"kind":"guest","id":"g${i}","host":"kn${i % 100}","index":${i},"image":"tux","cores":1,"mem_mib":128,"interfaces":[],"note":"`;
    text += `${record}${"x".repeat(BYTES - record.length - 3)}"}\n`;
  }
  writeSync(fd, text);
}
writeSync(fd, '{"kind":"end","id":"bench","counts":{}}\n');
closeSync(fd);

/** Seconds of one run: file in, pipe through `wc -c` out, so that the writer has a real pipe. */
function run(command: string): number {
  const began = performance.now();
  const done = spawnSync("bash", ["-c", `set -o pipefail; ${command} <"$1" | wc -c`, "bash", file], {
    env: { ...process.env, MT_HOST: "nobody", MT_RUN: dir, MT_STATE: dir, MT_LEASES: dir },
    encoding: "utf8",
  });
  if (done.status !== 0) throw new Error(`${command}: ${done.status} ${done.stderr}`);
  return (performance.now() - began) / 1000;
}

const commands = {
  vnet: `${DIST}mt-vnet up --host nobody`,
  boot: `${DIST}mt-boot up --host nobody`,
  cat: "cat",
  ...(has("jq") ? { jq: "jq -c ." } : {}),
};
const names = Object.keys(commands) as (keyof typeof commands)[];
try {
  // In rounds, so that all of them have the same load beside them; the first warms up.
  const rounds = Array.from({ length: ROUNDS + 1 }, () => names.map((name) => run(commands[name]!))).slice(1);
  const rate = (name: keyof typeof commands) =>
    RECORDS / median(rounds.map((seconds) => seconds[names.indexOf(name)]!));
  const what = `pass-through, mt-vnet up, ${BYTES}-byte guest records`;
  report(what, rate("vnet"), "records/s", { atLeast: 500_000 });
  report("pass-through, mt-boot up", rate("boot"), "records/s");
  report("  for scale: cat", rate("cat"), "records/s");
  if (names.includes("jq")) {
    report("  beside: jq -c .", rate("jq"), "records/s");
    report("  mt-vnet up, times as fast as jq", rate("vnet") / rate("jq"), "×", { atLeast: 12 });
  }
} finally {
  rmSync(dir, { recursive: true });
}
