/**
 * Many commands of ip, bridge or tc in one process: `-force -batch -` goes on after an error and says on
 * stderr which line failed. Only a wrong argument (a master or namespace that is not there) ends the
 * process, so these are made by an earlier batch than the one that names them.
 */
import { type MtError, mtError } from "../../../shared/errors.ts";
import { run } from "../../../shared/host/process.ts";

/** One line of a batch, and what to do where it fails. No word of it has white space. */
export interface Command {
  line: string;
  failed: (why: string) => void;
}

const BATCH_TIMEOUT_S = 300;

/** Runs the commands in order. Where the program itself fails (not there, too slow), every command fails, and it is returned. */
export async function runBatch(
  program: "ip" | "bridge" | "tc",
  commands: readonly Command[],
): Promise<MtError | undefined> {
  if (commands.length === 0) return undefined;
  const input = `${commands.map((c) => c.line).join("\n")}\n`;
  const done = await run(program, ["-force", "-batch", "-"], { input, timeout_s: BATCH_TIMEOUT_S });
  if (done.isErr()) {
    for (const c of commands) c.failed(done.error.message);
    return done.error;
  }
  if (done.value.code === 0) return undefined;
  const failures = parseFailures(done.value.stderr);
  for (const [n, why] of failures.lines) commands[n - 1]?.failed(why);
  if (failures.rest === undefined && failures.lines.size > 0) return undefined;
  // It ended before its last line: which lines after the last failure were done is not known.
  const last = Math.max(0, ...failures.lines.keys());
  const error = mtError(
    "failed",
    `Cannot run ${program} -batch: ${failures.rest ?? `exit code ${done.value.code}`}`,
  );
  for (const c of commands.slice(last)) c.failed(failures.rest ?? error.message);
  return error;
}

/** Which lines failed and why, and the error after the last of them, which ended the batch. */
export function parseFailures(stderr: string): { lines: Map<number, string>; rest: string | undefined } {
  const lines = new Map<number, string>();
  let said: string[] = [];
  for (const text of stderr.split("\n")) {
    const at = /^Command failed -:(\d+)$/.exec(text.trim());
    if (!at) {
      if (text.trim() !== "") said.push(text.trim());
      continue;
    }
    lines.set(Number(at[1]), reason(said));
    said = [];
  }
  // A warning at the end (as tc's about a quantum) does not end a batch; an error does.
  return { lines, rest: said.some((s) => s.startsWith("Error")) ? reason(said) : undefined };
}

/** The reason in one line, without the usage text that tc adds. */
function reason(said: string[]): string {
  const usage = said.findIndex((s) => /^usage:/i.test(s));
  const why = usage > 0 ? said.slice(0, usage) : said.slice(0, 3);
  return why.join("; ").replace(/^(RTNETLINK answers|Error): /, "") || "no reason given";
}
