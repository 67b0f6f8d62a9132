/** Runs a command that is a filter: host and flags from the command line, records from stdin to stdout. */
import { hostname } from "node:os";
import { exitCodeOf, type MtError } from "../errors.ts";
import { KINDS } from "../records/index.ts";
import { type Filter, type FilterContext, runFilter } from "../stream/filter.ts";
import { stdinRefilled } from "../stream/stdin.ts";
import type { Call } from "./invocation.ts";
import type { CommandSpec } from "./spec.ts";
import { warn } from "./stderr.ts";

/** The flags of filters; a command may have only some of them. */
interface FilterArgs {
  host?: string;
  only?: boolean;
}
export type FilterCall = Pick<Call, "tool" | "signal"> & { args: FilterArgs };

/** This host's name: --host, MT_HOST, else the host name. */
export const hostOf = ({ args }: { args: FilterArgs }): string =>
  args.host || process.env.MT_HOST || hostname();

/** Runs the filter over stdin; prints the error that no record carries, and returns the exit code. */
export async function runFilterCommand(
  { tool, args, signal }: FilterCall,
  filter: Omit<Filter, "by" | "host" | "only">,
): Promise<number> {
  const result = await runFilter(
    { by: tool, host: hostOf({ args }), only: args.only, ...filter },
    { input: stdinRefilled(), signal },
  );
  if (result.error && !signal.aborted) warn(result.error);
  return result.code;
}

/** Where nothing can be done: passes stdin on with this host's records that the command writes as failed. */
export async function failOwn(
  { tool, args }: Omit<FilterCall, "signal">,
  { writes }: CommandSpec,
  error: MtError,
): Promise<number> {
  const fail = (record: object, context: FilterContext) => context.failed(record, error);
  const kinds = writes.filter((kind) => ["host", "self"].includes(KINDS[kind].travel));
  const result = await runFilter(
    {
      by: tool,
      host: hostOf({ args }),
      only: args.only,
      changes: false,
      open: true,
      owns: Object.fromEntries(kinds.map((kind) => [kind, fail])),
    },
    { input: stdinRefilled() },
  );
  warn(error);
  return result.error?.code === "io" ? result.code : exitCodeOf(error.code);
}
