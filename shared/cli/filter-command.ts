/** The usual shape of a command that is a filter: host and flags from the command line, stdin in, stdout out. */
import { hostname } from "node:os";
import { type Filter, runFilter } from "../stream/filter.ts";
import { stdinChunks } from "../stream/stdin.ts";
import type { Invocation } from "./start.ts";
import { warn } from "./stderr.ts";

/** This host's name: --host, MT_HOST, else the host name. */
export function hostOf(invocation: Pick<Invocation, "args">): string {
  const given = invocation.args.host;
  return (typeof given === "string" && given) || process.env.MT_HOST || hostname();
}

/** Runs the filter over stdin and gives the exit code, having told what no record says. */
export async function runFilterCommand(
  invocation: Invocation,
  filter: Omit<Filter, "by" | "host" | "only">,
): Promise<number> {
  const result = await runFilter(
    { by: invocation.tool, host: hostOf(invocation), only: invocation.args.only === true, ...filter },
    { input: stdinChunks(), signal: invocation.signal },
  );
  if (result.error && !invocation.signal.aborted) warn(result.error);
  return result.code;
}
