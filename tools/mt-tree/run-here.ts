/** mt-tree map where no tree is up: the command runs on this host, on our own stdin; --reduce takes what it puts out. */
import { type ChildProcess, spawn } from "node:child_process";
import { numberArg } from "../../shared/cli/parse.ts";
import type { Invocation } from "../../shared/cli/start.ts";
import { warn } from "../../shared/cli/stderr.ts";
import { EXIT, exitCodeOf, mtError, orThrow } from "../../shared/errors.ts";
import { cleanEnv } from "../../shared/process.ts";
import { cannotRun, commandWords, KILL_GRACE_MS } from "./command.ts";

export async function runHere({ args, rest, signal }: Invocation): Promise<number> {
  const timeout_s = orThrow(numberArg(args, "timeout", { min: 1 }));
  orThrow(numberArg(args, "buffer", { min: 1 }));
  const [first = ""] = rest;
  const [program = "", ...words] = commandWords(rest);
  const env = cleanEnv();
  const reduced = args.reduce !== undefined;
  const filter = spawn(program, words, {
    stdio: ["inherit", reduced ? "pipe" : "inherit", "inherit"],
    env,
  });
  const children = [filter];
  if (reduced) {
    const reducer = spawn("/bin/sh", ["-c", String(args.reduce)], {
      stdio: ["pipe", "inherit", "inherit"],
      env,
    });
    children.push(reducer);
    // Who has closed its stdin takes no more; then the filter is not to wait for it.
    reducer.stdin!.on("error", () => {});
    reducer.on("exit", () => filter.stdout!.destroy());
    filter.stdout!.pipe(reducer.stdin!);
  }
  let late = false;
  const end = () => {
    for (const child of children) child.kill("SIGTERM");
    setTimeout(() => void children.map((child) => child.kill("SIGKILL")), KILL_GRACE_MS).unref();
  };
  const limit = setTimeout(() => {
    late = true;
    warn(mtError("timeout", `Cannot finish: no end after ${timeout_s} s`, "--timeout S gives it longer"));
    end();
  }, timeout_s * 1000);
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  const [code = EXIT.ok, reducerCode = EXIT.ok] = await Promise.all([
    ended(filter, first),
    ...children.slice(1).map((reducer) => ended(reducer, "/bin/sh")),
  ]);
  clearTimeout(limit);
  if (reducerCode !== EXIT.ok && !late)
    warn(mtError("failed", `Cannot reduce: /bin/sh ended with exit code ${reducerCode}`));
  return code || (reducerCode || late ? EXIT.failed : EXIT.ok);
}

function ended(child: ChildProcess, name: string): Promise<number> {
  return new Promise((resolve) => {
    child.on("error", (e: NodeJS.ErrnoException) => {
      const error = cannotRun(name, undefined, e);
      warn(error);
      resolve(exitCodeOf(error.code));
    });
    child.on("exit", (code) => resolve(code ?? EXIT.failed));
  });
}
