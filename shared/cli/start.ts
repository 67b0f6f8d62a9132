/**
 * The start and the end of every tool: reads the arguments, runs the command, turns signals into an abort, exits. The
 * only place with process.exit: stdout is written synchronously, so nothing is lost.
 */
import { EXIT, exitCodeOf, type MtError, toMtError } from "../errors.ts";
import { checkPlaces } from "../own-place.ts";
import { noRecords } from "../stream/stdin.ts";
import { StdoutClosed, writeAll } from "../stream/writer.ts";
import { COMMIT, SCHEMA_VERSION, VERSION } from "../version.ts";
import type { Commands } from "./invocation.ts";
import { type Parsed, parse, type Request } from "./parse.ts";
import type { ToolSpec } from "./spec.ts";
import { stderrStyle, warn } from "./stderr.ts";

export async function start<Spec extends ToolSpec>(tool: Spec, commands: Commands<Spec>): Promise<never> {
  // What parse gives has the types that the spec says.
  process.exit(await main(tool, commands as unknown as Commands<ToolSpec>, process.argv.slice(2)));
}

async function main(tool: ToolSpec, commands: Commands<ToolSpec>, words: string[]): Promise<number> {
  const request = parse(tool, words, process.env);
  if (request.isErr()) return complain(tool.name, request.error);
  const ask = request.value;
  if (ask.ask !== "run") return print(await answer(tool, ask));
  const { parsed } = ask;
  stderrStyle(tool.name, parsed.args.log === "json" ? "json" : "text");
  const none =
    parsed.spec.stdin === "records"
      ? noRecords(`pipe a plan in, as: ${tool.name} ${parsed.command} <abilene.plan`)
      : undefined;
  if (none) return complain(tool.name, none);
  // An error thrown in a timer or an event is told like every other bug; Bun would print a page of minified source.
  for (const event of ["uncaughtException", "unhandledRejection"])
    process.on(event, (thrown) => process.exit(complain(tool.name, toMtError(thrown))));
  const places = checkPlaces();
  if (places.isErr()) return refuse(tool, parsed, places.error);
  const abort = new AbortController();
  let signalCode: number | undefined;
  const onSignal = (code: number) => () => {
    // A second Ctrl-C ends it at once.
    if (signalCode !== undefined) process.exit(code);
    signalCode = code;
    abort.abort(new Error("signal"));
  };
  process.on("SIGINT", onSignal(EXIT.sigint));
  process.on("SIGTERM", onSignal(EXIT.sigterm));
  process.on("SIGHUP", onSignal(129));
  // A write without a reader fails with EPIPE, which is handled there.
  process.on("SIGPIPE", () => {});
  try {
    const run = await commands[parsed.command]!();
    const code = await run({ ...parsed, tool: tool.name, signal: abort.signal });
    return signalCode ?? code;
  } catch (thrown) {
    if (signalCode !== undefined) return signalCode;
    if (thrown instanceof StdoutClosed) return EXIT.ok;
    return complain(tool.name, toMtError(thrown));
  }
}

/** No work is done in directories that others can write to. The records that a filter would have worked on come out failed. */
async function refuse(tool: ToolSpec, { spec, args }: Parsed, error: MtError): Promise<number> {
  if (spec.stdin !== "records") return complain(tool.name, error);
  const { failOwn } = await import("./filter-command.ts");
  return failOwn({ tool: tool.name, args }, spec, error);
}

/** What `--version` prints: equal lines mean equal tools. */
export const versionLine = (tool: string) =>
  `${tool} ${VERSION} (schema ${SCHEMA_VERSION}, commit ${COMMIT})`;

/** Help and schemas are loaded only when asked for: they would slow the start of every command. */
async function answer(tool: ToolSpec, ask: Exclude<Request, { ask: "run" }>): Promise<string> {
  switch (ask.ask) {
    case "version":
      return versionLine(tool.name);
    case "help": {
      const { commandHelp, toolHelp } = await import("./help.ts");
      return ask.command ? commandHelp(tool, ask.command) : toolHelp(tool);
    }
    case "schema":
      return JSON.stringify((await import("./schema.ts")).toolSchema(tool, ask.command), undefined, 2);
    case "completion":
      return (await import("./completion.ts")).completion(tool, ask.shell);
  }
}

/** Prints an error on stderr and returns its exit code. */
export function complain(tool: string, error: MtError): number {
  warn(error, tool);
  return exitCodeOf(error.code);
}

function print(text: string): number {
  try {
    writeAll(1, Buffer.from(`${text}\n`));
    return EXIT.ok;
  } catch (thrown) {
    return thrown instanceof StdoutClosed ? EXIT.ok : exitCodeOf(toMtError(thrown).code);
  }
}
