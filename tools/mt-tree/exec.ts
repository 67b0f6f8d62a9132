/**
 * mt-tree exec: one command on many hosts, one exit record a host; stdin broadcast down the tree with
 * --stdin. Every host asked is in the result.
 */
import { numberArg } from "../../shared/cli/parse.ts";
import type { Invocation } from "../../shared/cli/start.ts";
import { EXIT, type MtError, mtError, orThrow } from "../../shared/errors.ts";
import { expandSet } from "../../shared/ranges.ts";
import { stdinChunks } from "../../shared/stream/stdin.ts";
import { LineWriter, StdoutClosed } from "../../shared/stream/writer.ts";
import { environmentForHosts, type HostExit, type Session, TreeClient } from "./client.ts";

/** Of each stream of each host; what is over is cut and said to be. */
const OUTPUT_BYTES_MAX = 1024 * 1024;
const END_GRACE_MS = 5_000;

interface Output {
  began: number;
  bytes: { 1: Buffer[]; 2: Buffer[] };
  size: { 1: number; 2: number };
}

export async function exec({ args, rest, signal }: Invocation): Promise<number> {
  const hosts = orThrow(expandSet(String(args.hosts)));
  const timeout_s = orThrow(numberArg(args, "timeout", { min: 1 }));
  const client = orThrow(await TreeClient.connect());
  const present = new Map(orThrow(await client.list()).map((h) => [h.host, h]));
  const human = args.human === true || process.stdout.isTTY === true;
  const writer = new LineWriter();
  const outputs = new Map<string, Output>();
  let failed = false;

  const tell = (host: string, how: HostExit) => {
    const o = outputs.get(host) ?? { began: Date.now(), bytes: { 1: [], 2: [] }, size: { 1: 0, 2: 0 } };
    outputs.delete(host);
    if (how.error || how.code !== 0) failed = true;
    const text = (fd: 1 | 2) => Buffer.concat(o.bytes[fd]).toString("utf8");
    if (human) for (const line of humanLines(host, how, text(1), text(2))) writer.line(line);
    else
      writer.line(
        JSON.stringify({
          kind: "exit",
          id: host,
          host,
          code: how.code,
          signal: how.signal,
          stdout: text(1),
          stderr: text(2),
          truncated: o.size[1] > OUTPUT_BYTES_MAX || o.size[2] > OUTPUT_BYTES_MAX ? true : undefined,
          seconds: Number(((Date.now() - o.began) / 1000).toFixed(3)),
          ...(how.error ? { state: "failed", error: { by: "mt-tree", ...how.error } } : {}),
        }),
      );
    writer.flush();
  };

  const living: string[] = [];
  for (const host of hosts) {
    const h = present.get(host);
    if (h?.present) living.push(host);
    else if (h)
      tell(host, {
        error: mtError(
          "lost",
          `Cannot reach ${host}: it is gone since ${h.since}`,
          "mt-tree up brings it back",
        ),
      });
    else
      tell(host, {
        error: mtError(
          "data",
          `Cannot reach ${host}: it is not in the tree`,
          "mt-tree status lists the hosts",
        ),
      });
  }
  await new Promise<void>((resolve, reject) => {
    let room: (() => void) | undefined;
    const session: Session = client.session(rest, environmentForHosts(), args.stdin === true, {
      output(host, fd, bytes) {
        const o = outputs.get(host)!;
        const left = OUTPUT_BYTES_MAX - o.size[fd];
        if (left > 0) o.bytes[fd].push(Buffer.from(bytes.subarray(0, left)));
        o.size[fd] += bytes.length;
      },
      exit(host, how) {
        try {
          tell(host, how);
        } catch (thrown) {
          session.kill("SIGTERM");
          reject(thrown);
        }
        if (session.running.length === 0) resolve();
      },
      drain: () => room?.(),
    });
    for (const host of living)
      outputs.set(host, { began: Date.now(), bytes: { 1: [], 2: [] }, size: { 1: 0, 2: 0 } });
    session.start(living);
    if (living.length === 0) return resolve();
    const late = setTimeout(
      () => endSession(session, mtError("timeout", `Cannot run ${rest[0]}: no end after ${timeout_s} s`)),
      timeout_s * 1000,
    );
    late.unref();
    signal.addEventListener(
      "abort",
      () => endSession(session, mtError("failed", `Cannot run ${rest[0]}: interrupted`)),
      { once: true },
    );
    if (args.stdin === true)
      void (async () => {
        for await (const chunk of stdinChunks()) {
          if (!session.broadcast(chunk))
            await new Promise<void>((go) => {
              room = go;
            });
          if (session.running.length === 0) break;
        }
        session.end();
      })().catch(reject);
  }).catch((thrown: unknown) => {
    if (!(thrown instanceof StdoutClosed)) throw thrown;
    failed = true;
  });
  client.close();
  return failed ? EXIT.failed : EXIT.ok;
}

/** Ends what runs: asks, then gives up on whoever does not answer. */
export function endSession(session: Session, error: MtError): void {
  session.kill("SIGTERM");
  setTimeout(() => session.giveUp(error), END_GRACE_MS).unref();
}

function humanLines(host: string, how: HostExit, stdout: string, stderr: string): string[] {
  const lines = [...stdout.split("\n"), ...stderr.split("\n")]
    .filter((l) => l !== "")
    .map((l) => `${host}: ${l}`);
  if (how.error) lines.push(`${host}: ${how.error.message}`);
  else if (how.code !== 0)
    lines.push(`${host}: ${how.signal ? `ended by ${how.signal}` : `exit code ${how.code}`}`);
  return lines;
}
