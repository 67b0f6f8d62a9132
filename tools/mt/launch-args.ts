/**
 * `mt --words mt-launch WORD…`, called by that script: reads its command line by the same rules as every tool's, and
 * writes the arguments to file descriptor 3 as NAME=VALUE, each ended by NUL; a flag that is not set has no VALUE.
 * An answer about the script (--help, --version, …) goes to stdout, and nothing to descriptor 3.
 */
import type { CommandOf, Run } from "../../shared/cli/invocation.ts";
import { start } from "../../shared/cli/start.ts";
import { writeAll } from "../../shared/stream/writer.ts";
import { spec } from "../mt-launch/spec.ts";

const tell: Run<typeof spec, CommandOf<typeof spec>> = async ({ command, args }) => {
  const meant = Object.entries({ ...args, verb: command })
    .filter(([name]) => name !== "help" && name !== "schema")
    .map(([name, value]) => `${name}=${value === true ? "yes" : value === false ? "" : (value ?? "")}\0`);
  writeAll(3, Buffer.from(meant.join("")));
  return 0;
};

const run = async () => tell;
await start(spec, { up: run, check: run, down: run });
