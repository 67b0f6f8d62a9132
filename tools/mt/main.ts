/**
 * All tools in one binary: the name of the link that it is called by, or the first word, tells which one runs.
 * Each tool's main.ts runs when it is imported. `mt --links` makes the links. For the script mt-launch, `mt --words` reads
 * its command line, `mt --plans` prints that script's directory, `mt --id`, `--failed` and `--unheard` read records.
 */
import { basename } from "node:path";
import { mtError } from "../../shared/errors.ts";
import { TOOLS } from "./tools.ts";

const calledAs = basename(process.argv0);
let name = calledAs;
const forScript = process.argv[2] === "--words" && process.argv[3] === "mt-launch";
if (forScript) process.argv.splice(2, 2);
else if (!Object.hasOwn(TOOLS, name)) {
  // `mt mt-boot …` or `mt boot …`
  const first = process.argv[2] ?? "";
  name = Object.hasOwn(TOOLS, first) ? first : `mt-${first}`;
  if (Object.hasOwn(TOOLS, name)) process.argv.splice(2, 1);
}
const load = Object.hasOwn(TOOLS, name) ? TOOLS[name] : undefined;
if (forScript) await import("./launch-args.ts");
else if (load) await load();
else if (process.argv[2] === "--links") await import("./links.ts");
else if (process.argv[2] === "--plans") await import("./plans.ts");
else if (["--id", "--failed", "--unheard"].includes(process.argv[2] ?? "")) {
  const { answer } = await import("./records.ts");
  process.exitCode = await answer(process.argv[2]!);
} else {
  const { complain } = await import("../../shared/cli/start.ts");
  const hint = `one of: ${Object.keys(TOOLS).join(", ")}`;
  process.exitCode = complain(
    "mt",
    mtError("usage", `Cannot run ${JSON.stringify(process.argv[2] ?? "")}: no such tool`, hint),
  );
}
