/**
 * Errors of an image build, and running a program whose failure is such an error.
 * Reads: the output of the programs it runs.  Writes: nothing.
 */
import { err, ok, type Result } from "neverthrow";
import { type MtError, mtError, toMtError } from "../../shared/errors.ts";
import { cleanEnv, run as runProgram } from "../../shared/host/process.ts";

/** Longest reason in an error: mmdebstrap quotes whole command lines. */
const STATE_CHARACTERS_MAX = 300;

/** "Cannot <action>: <state>"; an exception with an errno keeps its meaning (a full disk, no permission). */
export function imageError(
  code: "unavailable" | "io" | "data",
  action: string,
  state: unknown,
  hint?: string,
): MtError {
  if (state instanceof Error && "code" in state)
    return { ...toMtError(state), message: `Cannot ${action}: ${state.message}` };
  return mtError(code, `Cannot ${action}: ${state instanceof Error ? state.message : String(state)}`, hint);
}

let interrupted: AbortSignal | undefined;

/** From now on the signal ends every program of the build. */
export function endProgramsBy(signal: AbortSignal): void {
  interrupted = signal;
}

/** Runs a program to its end and gives its stdout; an error is "Cannot <action>: …". */
export async function run(
  program: string,
  argv: string[],
  options: {
    action: string;
    cwd?: string;
    timeout_s?: number;
    env?: NodeJS.ProcessEnv;
  },
): Promise<Result<string, MtError>> {
  // LC_ALL=C: messages of apt and dpkg are parsed here, and would be translated otherwise.
  const done = await runProgram(program, argv, {
    cwd: options.cwd,
    timeout_s: options.timeout_s ?? 300,
    signal: interrupted,
    env: cleanEnv({ ...options.env, LC_ALL: "C" }),
  });
  return done.andThen(({ code, stdout, stderr }) => {
    if (code === 0) return ok(stdout);
    // The last line of a program that starts others only says that one of them failed.
    if (/No space left on device/.test(stderr))
      return err(imageError("io", options.action, "the disk is full", "free some space where MT_STATE is"));
    const why = lastError(stderr) ?? `${program} ended with ${code}`;
    return err(imageError("unavailable", options.action, why.slice(0, STATE_CHARACTERS_MAX)));
  });
}

/** The most telling line of stderr: apt's own "E:" line, else the last one. */
export function lastError(stderr: string): string | undefined {
  const lines = stderr
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  return (lines.find((line) => line.startsWith("E: ")) ?? lines.at(-1))?.replace(/^E: /, "");
}
