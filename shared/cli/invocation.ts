/** What a command gets when it is called, and the type of the function that does its work. */
import type { Parsed } from "./parse.ts";
import type { commonArgs, ToolSpec, Values } from "./spec.ts";

/** Names of a tool's commands. */
export type CommandOf<Spec extends ToolSpec> = keyof Spec["commands"] & string;
/** What `args` of a command has: `ArgsOf<typeof spec, "up">`. Of a tool that is not known, anything. */
export type ArgsOf<Spec extends ToolSpec, Command extends CommandOf<Spec>> =
  string extends CommandOf<Spec>
    ? Parsed["args"]
    : Values<Spec["commands"][Command]["args"] & typeof commonArgs>;

/** What every command gets, whatever its flags are. */
export interface Call extends Pick<Parsed, "command" | "spec" | "words" | "rest"> {
  tool: string;
  /** Aborted by SIGINT, SIGTERM and SIGHUP. */
  signal: AbortSignal;
}
export interface Invocation<Spec extends ToolSpec, Command extends CommandOf<Spec>> extends Call {
  args: ArgsOf<Spec, Command>;
}

/** Does the work of one command; returns its exit code. A thrown MtFailure goes to stderr and gives the code. */
export type Run<Spec extends ToolSpec, Command extends CommandOf<Spec>> = (
  invocation: Invocation<Spec, Command>,
) => Promise<number>;
/** All commands of a tool, each loaded only when called, so that the others do not slow its start. */
export type Commands<Spec extends ToolSpec> = {
  readonly [Command in CommandOf<Spec>]: () => Promise<Run<Spec, Command>>;
};
