/** How long a tool takes to start and end, beside a compiled program that does nothing but print a line. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DIST, median, report, timed } from "./measure.ts";

const RUNS = 20;
function milliseconds(file: string, words: string[], input = ""): number {
  const run = () => {
    const done = spawnSync(file, words, { input });
    if (done.status !== 0) throw new Error(`${file}: ${done.status} ${done.stderr}`);
  };
  run();
  return median(timed(RUNS, run)) * 1000;
}
const dir = mkdtempSync(join(tmpdir(), "mt-bench-"));
try {
  const tools = readdirSync(DIST).filter((f) => /^mt-/.test(f) && f !== "mt-launch");
  const each = tools.map((t) => milliseconds(join(DIST, t), ["--version"]));
  report(`start, the slowest of ${tools.length} tools, --version`, Math.max(...each), "ms", { atMost: 20 });
  report("start, the median tool, --version", median(each), "ms");
  report(
    "start, mt mt-vnet --version (all tools in one)",
    milliseconds(join(DIST, "mt"), ["mt-vnet", "--version"]),
    "ms",
  );
  const end = '{"kind":"end","id":"a","counts":{}}\n';
  report(
    "start, mt-vnet up, one record in and out",
    milliseconds(join(DIST, "mt-vnet"), ["up", "--host", "nobody"], end),
    "ms",
  );
  writeFileSync(join(dir, "hello.ts"), 'console.log("hello");\n');
  const built = spawnSync(process.execPath, [
    "build",
    "--compile",
    "--minify",
    "--bytecode",
    "--format=esm",
    join(dir, "hello.ts"),
    "--outfile",
    join(dir, "hello"),
  ]);
  if (built.status !== 0) throw new Error(String(built.stderr));
  report("  beside: a compiled hello", milliseconds(join(dir, "hello"), []), "ms");
} finally {
  rmSync(dir, { recursive: true });
}
