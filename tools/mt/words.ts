/**
 * `mt --words mt-launch WORD…`, called by that script: reads its command line by the same rules as every tool's,
 * and writes what is meant to file descriptor 3: NAME=VALUE, each ended by NUL, a flag that is not set empty.
 * An answer about the script (--help, --version, …) goes to stdout, and nothing to 3.
 */

import type { Run } from "../../shared/cli/invocation.ts";
import { numberArg } from "../../shared/cli/parse.ts";
import { start } from "../../shared/cli/start.ts";
import { orThrow } from "../../shared/errors.ts";
import { writeAll } from "../../shared/stream/writer.ts";
import { spec } from "../mt-launch/spec.ts";

const NUMBERS = ["fanout", "guests"];

const words: Run = async ({ command, args }) => {
  for (const flag of NUMBERS) if (args[flag] !== undefined) orThrow(numberArg(args, flag, { min: 1 }));
  const meant: Record<string, string | boolean | undefined> = { ...args, verb: command };
  const said = Object.entries(meant)
    .filter(([name]) => name !== "help" && name !== "schema")
    .map(([name, value]) => `${name}=${value === true ? "yes" : value === false ? "" : (value ?? "")}\0`);
  writeAll(3, Buffer.from(said.join("")));
  return 0;
};

const run = async () => words;
await start(spec, { up: run, check: run, down: run });
