/** Records a second through a filter that owns none of them, beside jq (which parses and prints) and cat (which only copies). */
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DIST, has, median, report, timed } from "./measure.ts";

const RECORDS = 1_000_000;
const BYTES = 150;

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

/** Records/s: file in, pipe through `wc -c` out, so that the writer has a real pipe. */
function rate(command: string): number {
  const runs = timed(5, () => {
    const done = spawnSync("bash", ["-c", `set -o pipefail; ${command} <"$1" | wc -c`, "bash", file], {
      env: { ...process.env, MT_HOST: "nobody", MT_RUN: dir, MT_STATE: dir, MT_LEASES: dir },
      encoding: "utf8",
    });
    if (done.status !== 0) throw new Error(`${command}: ${done.status} ${done.stderr}`);
  });
  return RECORDS / median(runs);
}
try {
  report(
    `pass-through, mt-vnet up, ${BYTES}-byte guest records`,
    rate(`${DIST}mt-vnet up --host nobody`),
    "records/s",
    { atLeast: 500_000 },
  );
  report("pass-through, mt-boot up", rate(`${DIST}mt-boot up --host nobody`), "records/s");
  if (has("jq")) report("  beside: jq -c .", rate("jq -c ."), "records/s");
  report("  for scale: cat", rate("cat"), "records/s");
} finally {
  rmSync(dir, { recursive: true });
}
