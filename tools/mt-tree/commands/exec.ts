/**
 * mt-tree exec: runs one command on many hosts, and prints an exit record for each host that was named. With --stdin,
 * stdin is broadcast down the tree. For people output is printed as it comes, or folded.
 */
import { ok, type Result } from "neverthrow";
import type { Run } from "../../../shared/cli/invocation.ts";
import { EXIT, fail, type MtError, mtError, orThrow } from "../../../shared/errors.ts";
import { namedHosts } from "../../../shared/nodeset/groups.ts";
import { isTerminal } from "../../../shared/stream/descriptors.ts";
import { stdinChunks } from "../../../shared/stream/stdin.ts";
import { StdoutClosed } from "../../../shared/stream/writer.ts";
import type { CommandEnd } from "../node/command.ts";
import { environmentForHosts, TreeClient } from "../session/client.ts";
import type { CommandSession, Session } from "../session/session.ts";
import type { spec } from "../spec.ts";
import { foldedPrinter, labelledPrinter, recordPrinter } from "./exec-output.ts";

/** A host sends SIGKILL 5 s after SIGTERM; a host that has said nothing by then is given up. */
const END_GRACE_MS = 7_000;

export const exec: Run<typeof spec, "exec"> = async ({ args, rest, signal }) => {
  const hosts = orThrow(namedHosts(args.hosts));
  const { timeout: timeout_s } = args;
  const env = { ...environmentForHosts(), ...orThrow(variables(args.env)) };
  const cwd = orThrow(directory(args.cwd));
  const client = orThrow(await TreeClient.connect());
  orThrow(await client.list());
  const human = args.human || isTerminal(1);
  const printer = args.fold ? foldedPrinter(hosts) : human ? labelledPrinter() : recordPrinter();
  const began = Date.now();
  let code: number = EXIT.ok;
  /** Set when the commands are being ended: hosts that end after that fail with this error. */
  let ending: MtError | undefined;

  const tell = (host: string, how: CommandEnd) => {
    if (how.error || how.code !== 0) code = EXIT.failed;
    printer.exit(host, how, (Date.now() - began) / 1000);
  };
  let waiting = hosts.length;
  await new Promise<void>((resolve, reject) => {
    let room: (() => void) | undefined;
    let over = false;
    /** Where printing fails (stdout is closed, the disk is full) the command is ended on all hosts. */
    const guarded = (print: () => void) => {
      if (over) return;
      try {
        print();
      } catch (thrown) {
        over = true;
        session.kill("SIGTERM");
        reject(thrown);
      }
    };
    const command = { argv: rest, env, cwd, stdin: args.stdin };
    const session: Session = client.session(
      command,
      {
        output: (host, fd, bytes) => guarded(() => printer.output(host, fd, bytes)),
        exit(host, how) {
          waiting--;
          guarded(() => tell(host, ending ? { error: ending } : how));
          if (waiting === 0) resolve();
        },
        drain: () => room?.(),
      },
      hosts.length,
    );
    session.run(hosts);
    if (waiting === 0 || over) return;
    const end = (error: MtError) => {
      if (ending) return;
      ending = error;
      endSession(session, error);
    };
    const late = mtError(
      "timeout",
      `Cannot run ${rest[0]}: no end after ${timeout_s} s`,
      "--timeout S gives it longer",
    );
    setTimeout(() => end(late), timeout_s * 1000).unref();
    const interrupted = () => end(mtError("failed", `Cannot run ${rest[0]}: interrupted`));
    signal.addEventListener("abort", interrupted, { once: true });
    if (signal.aborted) interrupted();
    if (args.stdin)
      void (async () => {
        for await (const chunk of stdinChunks(signal)) {
          if (!session.broadcast(chunk))
            await new Promise<void>((go) => {
              room = go;
            });
          if (waiting === 0) break;
        }
        session.end();
      })().catch(reject);
  })
    .then(() => printer.end())
    .catch((thrown: unknown) => {
      if (!(thrown instanceof StdoutClosed)) throw thrown;
      // The command may have changed things, and was ended before it had finished.
      code = EXIT.io;
    });
  client.close();
  return code;
};

/** The values of --env (`K=V`) as an environment. */
function variables(values: readonly string[]): Result<Record<string, string>, MtError> {
  const env: Record<string, string> = {};
  for (const value of values) {
    const m = /^([A-Za-z_][A-Za-z0-9_]*)=([^\0]*)$/s.exec(value);
    if (!m)
      return fail(
        "usage",
        `Cannot use --env ${JSON.stringify(value.slice(0, 60))}: it is no K=V`,
        "--env LANG=C",
      );
    env[m[1]!] = m[2]!;
  }
  return ok(env);
}

function directory(word: string | undefined): Result<string | undefined, MtError> {
  if (word === undefined) return ok(undefined);
  if (word.startsWith("/") && !word.includes("\0")) return ok(word);
  return fail(
    "usage",
    `Cannot use --cwd ${JSON.stringify(word.slice(0, 60))}: it is no whole path`,
    "hosts do not know the directory that you are in: --cwd /tmp",
  );
}

/** Ends the command: by SIGTERM, then gives up on hosts that do not answer. */
export function endSession(session: CommandSession, error: MtError): void {
  session.kill("SIGTERM");
  setTimeout(() => session.giveUp(error), END_GRACE_MS).unref();
}
