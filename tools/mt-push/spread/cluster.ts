/** Runs commands on hosts through mt-tree, with a file as the stdin of all; gives the answers by host. */
import { type ChildProcess, spawn } from "node:child_process";
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import { cleanEnv, toolCommand } from "../../../shared/host/process.ts";
import { foldNodes } from "../../../shared/nodeset/fold.ts";
import type { Exit, Host } from "../../../shared/records/index.ts";
import { LineSplitter } from "../../../shared/stream/lines.ts";

/** What a host answered: its stdout, or why it failed. */
export type Answer = Result<string, MtError>;

/** Runs a command on hosts; a file goes to the stdin of all of them, down the tree. */
export async function onHosts(
  hosts: string[],
  command: string[],
  options: { file?: string; timeout_s: number; signal: AbortSignal },
): Promise<Map<string, Answer>> {
  const named = nameHosts(hosts);
  const words = [
    ...toolCommand("mt-tree"),
    "exec",
    named.set,
    ...(options.file === undefined ? [] : ["--stdin"]),
    `--timeout=${options.timeout_s}`,
    "--",
    ...command,
  ];
  const answers = new Map<string, Answer>();
  const each = (exit: Exit) => void answers.set(exit.id, answerOf(exit));
  const { stderr } = await lines<Exit>(words, options.file, options.signal, each, named.env).finally(
    named.done,
  );
  const silent = mtError(
    "failed",
    `Cannot reach the hosts: ${stderr.split("\n")[0] || "mt-tree gave no answer"}`,
    "mt-tree status",
  );
  for (const host of hosts) if (!answers.has(host)) answers.set(host, err(silent));
  return answers;
}

/** The kernel takes no argument longer than 128 KiB: a longer set goes as a group, in a file. */
const SET_LENGTH_MAX = 100_000;

export function nameHosts(hosts: readonly string[]): {
  set: string;
  env?: NodeJS.ProcessEnv;
  done: () => void;
} {
  const set = foldNodes(hosts);
  if (set.length <= SET_LENGTH_MAX) return { set, done: () => {} };
  const dir = mkdtempSync(join(tmpdir(), "mt-push-"));
  writeFileSync(join(dir, "groups"), `these: ${set}\n`);
  return {
    set: "@these",
    env: { MT_GROUPS: join(dir, "groups") },
    done: () => rmSync(dir, { recursive: true, force: true }),
  };
}

function answerOf(exit: Exit): Answer {
  if (exit.error) return err(exit.error);
  if (exit.code === 0) return ok(exit.stdout ?? "");
  const said = (exit.stderr ?? "")
    .trim()
    .split("\n")[0]
    ?.replace(/^mt-push: /, "");
  return fail(
    "failed",
    said || `Cannot run mt-push on ${exit.id}: ${exit.signal ?? `exit code ${exit.code}`}`,
  );
}

/** All hosts of the tree that is up here; or why mt-tree cannot say (`unavailable` where no tree is up). */
export async function hostsOfTree(signal: AbortSignal): Promise<Result<string[], MtError>> {
  const hosts: string[] = [];
  const words = [...toolCommand("mt-tree"), "status", "--records"];
  const { stderr } = await lines<Host>(words, undefined, signal, (host) => hosts.push(host.id), {
    MT_LOG: "json",
  });
  if (hosts.length > 0) return ok(hosts);
  return err(errorIn(stderr) ?? mtError("unavailable", "Cannot reach the tree: mt-tree gave no answer"));
}

/** The first error that one of our tools told on stderr with MT_LOG=json. */
function errorIn(stderr: string): MtError | undefined {
  for (const line of stderr.split("\n")) {
    try {
      const { level, code, message, hint } = JSON.parse(line);
      if (level === "error") return { code, message, ...(hint === undefined ? {} : { hint }) };
    } catch {
      // Not one of ours: the next line.
    }
  }
}

/** Runs one of our tools and reads its records. */
function lines<R>(
  words: string[],
  file: string | undefined,
  signal: AbortSignal,
  each: (record: R) => void,
  env: NodeJS.ProcessEnv = {},
): Promise<{ stderr: string }> {
  return new Promise((resolve) => {
    const child: ChildProcess = spawn(words[0]!, words.slice(1), {
      stdio: [file ? "pipe" : "ignore", "pipe", "pipe"],
      env: cleanEnv(env),
    });
    const splitter = new LineSplitter();
    let stderr = "";
    const take = (found: { text: string }[]) => {
      for (const { text } of found) if (text !== "") each(JSON.parse(text) as R);
    };
    const stop = () => child.kill("SIGTERM");
    signal.addEventListener("abort", stop, { once: true });
    child.stdout?.on("data", (chunk: Buffer) => take(splitter.push(chunk)));
    child.stderr?.on("data", (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(0, 4096);
    });
    child.stdin?.on("error", () => {
      // Every host may have failed before it read all: their exit records say why.
    });
    if (file && child.stdin) createReadStream(file, { highWaterMark: 1 << 18 }).pipe(child.stdin);
    const done = () => {
      signal.removeEventListener("abort", stop);
      resolve({ stderr });
    };
    child.on("error", (e) => {
      stderr = e.message;
      done();
    });
    child.on("close", () => {
      take(splitter.end());
      done();
    });
  });
}
