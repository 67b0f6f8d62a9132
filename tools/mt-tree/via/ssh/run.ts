/**
 * Runs a shell script on a host by the user's own ssh. The script is sent on stdin, so that no login shell interprets it
 * and no process list shows it. The script's answers are lines with our marker (marker.ts): the host's profile may print
 * anything else before, between and after them. Every run has a time limit.
 */
import { spawn } from "node:child_process";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../../shared/errors.ts";
import { cleanEnv, findProgram } from "../../../../shared/host/process.ts";
import { marked } from "../marker.ts";

/** Seconds in which a host must take the connection and its sshd must answer. */
export const CONNECT_S = 10;
/** How much of the end of ssh's stderr is kept. */
const STDERR_CHARACTERS = 4096;
/** How long a master connection of the user's may keep ssh's output open after ssh has ended. */
const OUTPUT_GRACE_MS = 500;

/** How ssh is called for one host: program and options, as `ssh -F file`, and limits. */
export interface SshCall {
  command: readonly string[];
  host: string;
  connect_s: number;
  signal?: AbortSignal;
}

/** stdin of a script, which stays open while it runs. */
export interface OpenStdin {
  write(text: string): void;
  end(): void;
}

export interface SshRun {
  /** Gets each line of the script without the marker, as it comes. */
  onLine?: (line: string) => void;
  /** What follows the script on stdin: the script reads it. */
  input?: readonly (string | Uint8Array)[];
  /** Called with the script's stdin, which then stays open until the callee ends it. */
  onStdin?: (stdin: OpenStdin) => void;
  /** Seconds for the whole. */
  timeout_s: number;
}

/** Program and options from `--ssh`. */
export const sshCommand = (text: string | undefined): string[] =>
  (text ?? "ssh").split(/\s+/).filter(Boolean);

/** Options before a host's name: ssh asks nothing, forwards nothing, and does nothing that only an interactive session needs. */
function options(connect_s: number): string[] {
  const set = {
    BatchMode: "yes",
    ConnectTimeout: connect_s,
    ServerAliveInterval: 5,
    ServerAliveCountMax: 3,
    ClearAllForwardings: "yes",
    ControlMaster: "no",
    RemoteCommand: "none",
  };
  return [
    "-T",
    "-x",
    "-a",
    "-4",
    ...Object.entries(set).flatMap(([name, value]) => ["-o", `${name}=${value}`]),
  ];
}

/** Blank lines before the script on stdin: a profile that reads an answer (`read -p "Press Enter"`) gets one of them. */
const BEGIN = "#@mt";
const BLANK_LINES = "\n".repeat(16);

/** Arguments with which ssh runs this script, which is sent first on stdin as `stdinOf` gives it. */
export function sshArgv({ command, host, connect_s }: SshCall, script: Buffer): string[] {
  // dd, because a shell may read its input ahead. Nothing in here means something to any login shell, csh and fish as well.
  const read = `exec sh -c 'while IFS= read -r l && [ "$l" != "${BEGIN}" ]; do :; done; eval "$(dd bs=1 count=${script.length} 2>/dev/null)"'`;
  return [...command.slice(1), ...options(connect_s), "--", host, read];
}

export const stdinOf = (script: Buffer) => Buffer.concat([Buffer.from(`${BLANK_LINES}${BEGIN}\n`), script]);

/** A script with its variables set before it; values are quoted. */
export function withVariables(variables: Readonly<Record<string, string | number>>, script: string): Buffer {
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const lines = Object.entries(variables).map(([name, value]) => `${name}=${quoted(String(value))}`);
  return Buffer.from(`${lines.join("\n")}\n${script}`);
}

/** Runs a script on a host to its end. Gives its lines, or why it did not come to its end. */
export async function runBySsh(
  call: SshCall,
  script: Buffer,
  { onLine, input = [], onStdin, timeout_s }: SshRun,
): Promise<Result<string[], MtError>> {
  const program = findProgram(call.command[0] ?? "ssh");
  if (program.isErr()) return err(program.error);
  const child = spawn(program.value, sshArgv(call, script), { stdio: "pipe", env: cleanEnv() });
  const lines: string[] = [];
  let begun = "";
  let other = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const parts = (begun + text).split("\n");
    begun = parts.pop()!.slice(-STDERR_CHARACTERS);
    for (const line of parts) {
      const said = marked(line);
      if (said === undefined) {
        if (line.trim() !== "") other = line;
        continue;
      }
      lines.push(said);
      onLine?.(said);
    }
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-STDERR_CHARACTERS);
  });
  // It may end before it has read everything: its exit code says why.
  child.stdin.on("error", () => {});
  let late = false;
  const limit = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, timeout_s * 1000);
  const stop = () => child.kill("SIGTERM");
  call.signal?.addEventListener("abort", stop, { once: true });
  if (call.signal?.aborted) stop();
  for (const part of [stdinOf(script), ...input]) child.stdin.write(part);
  if (onStdin) onStdin({ write: (text) => child.stdin.write(text), end: () => child.stdin.end() });
  else child.stdin.end();
  const code = await new Promise<number | undefined>((resolve) => {
    child.on("error", () => resolve(undefined));
    child.on("exit", (c) => setTimeout(() => resolve(c ?? undefined), OUTPUT_GRACE_MS).unref());
    child.on("close", (c) => resolve(c ?? undefined));
  });
  clearTimeout(limit);
  call.signal?.removeEventListener("abort", stop);
  child.stdout.destroy();
  child.stderr.destroy();
  const { host } = call;
  const ssh = call.command.join(" ");
  if (lines.includes("end")) return ok(lines);
  if (call.signal?.aborted) return fail("failed", `Cannot reach host ${host}: interrupted`);
  if (late)
    return fail(
      "timeout",
      lines.length > 0
        ? `Cannot prepare host ${host}: no end after ${timeout_s} s`
        : `Cannot reach host ${host}: no answer from its sshd in ${timeout_s} s`,
      `${ssh} ${host} true`,
    );
  if (code === 255) return err(sshError(host, stderr, ssh));
  const said = lastLine(stderr) || other;
  return fail(
    "unavailable",
    `Cannot use host ${host}: ${said ? `its shell said ${JSON.stringify(said)}` : `no shell ran there (exit code ${code})`}`,
    `${ssh} ${host} sh -c true must work`,
  );
}

const lastLine = (text: string) => text.trim().split("\n").pop()!.trim();

/** What the end of ssh's stderr means, as an error. */
export function sshError(host: string, stderr: string, ssh = "ssh"): MtError {
  const cannot = `Cannot reach host ${host}`;
  const known: [RegExp, () => MtError][] = [
    [
      /Could not resolve hostname/i,
      () =>
        mtError("unavailable", `${cannot}: its name does not resolve`, "in DNS, /etc/hosts or ~/.ssh/config"),
    ],
    [
      /REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed|No \S+ host key is known/i,
      () =>
        mtError(
          "permission",
          /HAS CHANGED/.test(stderr)
            ? `${cannot}: its host key is another than the known one`
            : `${cannot}: its host key is not known`,
          `${ssh} ${host} once, and say whether it is the right one`,
        ),
    ],
    [
      /Permission denied|Too many authentication failures/i,
      () =>
        mtError(
          "permission",
          `${cannot}: it takes no key of ours`,
          `${ssh} ${host} must work without a question: ssh-copy-id ${host}, or an ssh-agent`,
        ),
    ],
    [
      /Connection refused/i,
      () =>
        mtError(
          "unavailable",
          `${cannot}: nothing listens on its ssh port (connection refused)`,
          "sshd runs there? another Port in ~/.ssh/config?",
        ),
    ],
    [
      /timed out|Timeout, server .* not responding/i,
      () =>
        mtError(
          "timeout",
          /banner/i.test(stderr)
            ? `${cannot}: what listens there says nothing (time-out during the banner)`
            : `${cannot}: the connection timed out`,
          "it is on, and no firewall between?",
        ),
    ],
    [
      /No route to host|Network is unreachable/i,
      () => mtError("unavailable", `${cannot}: no route to it`, "it is on, and its network is up?"),
    ],
    [
      /kex_exchange_identification|Connection (?:closed|reset)|banner|Broken pipe/i,
      () =>
        mtError(
          "lost",
          `${cannot}: it closed the connection before it let us in`,
          "MaxStartups of its sshd? what listens there is an sshd?",
        ),
    ],
  ];
  for (const [pattern, error] of known) if (pattern.test(stderr)) return error();
  return mtError("unavailable", `${cannot}: ${lastLine(stderr) || "ssh failed"}`, `${ssh} ${host} true`);
}
