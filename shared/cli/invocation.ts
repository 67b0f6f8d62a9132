/** A command that was called, and what does its work. */
import type { Parsed } from "./parse.ts";

export interface Invocation extends Parsed {
  tool: string;
  /** Aborted by SIGINT, SIGTERM and SIGHUP. */
  signal: AbortSignal;
}

/** Does the work of one command; gives its exit code. A thrown MtError is told on stderr and mapped. */
export type Run = (invocation: Invocation) => Promise<number>;
/** Commands by name, loaded only when called: what a tool does not use does not slow its start. */
export type Commands = Record<string, () => Promise<Run>>;
