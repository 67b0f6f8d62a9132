/**
 * mt-tree exec: one command on many hosts, one exit record a host; stdin broadcast down the tree with
 * --stdin. Every host asked is in the result. For people lines are printed as they come.
 */
import { numberArg } from "../../shared/cli/parse.ts";
import type { Invocation } from "../../shared/cli/start.ts";
import { EXIT, type MtError, mtError, orThrow } from "../../shared/errors.ts";
import { expandSet } from "../../shared/ranges.ts";
import { printed } from "../../shared/records/output.ts";
import { stdinChunks } from "../../shared/stream/stdin.ts";
import { LineWriter, StdoutClosed } from "../../shared/stream/writer.ts";
import { environmentForHosts, type HostExit, type Session, TreeClient } from "./client.ts";

/** Of each stream of each host; what is over is cut and said to be. */
const OUTPUT_BYTES_MAX = 1024 * 1024;
const END_GRACE_MS = 5_000;

interface Output {
  began: number;
  bytes: { 1: Buffer[]; 2: Buffer[] };
  /** All that came, also what is not kept. */
  size: { 1: number; 2: number };
}
const noOutput = (): Output => ({ began: Date.now(), bytes: { 1: [], 2: [] }, size: { 1: 0, 2: 0 } });

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
    const o = outputs.get(host) ?? noOutput();
    outputs.delete(host);
    if (how.error || how.code !== 0) failed = true;
    const cut = (fd: 1 | 2) => o.size[fd] > OUTPUT_BYTES_MAX;
    if (human) {
      for (const fd of [1, 2] as const)
        if (o.bytes[fd].length > 0) writer.line(`${host}: ${Buffer.concat(o.bytes[fd])}`);
      const end = humanEnd(how);
      if (end !== undefined) writer.line(`${host}: ${end}`);
    } else
      writer.line(
        JSON.stringify({
          kind: "exit",
          id: host,
          host,
          code: how.code,
          signal: how.signal,
          ...printed("stdout", Buffer.concat(o.bytes[1]), cut(1)),
          ...printed("stderr", Buffer.concat(o.bytes[2]), cut(2)),
          truncated: cut(1) || cut(2) ? true : undefined,
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
    let over = false;
    /** What throws here (nobody reads us any more, the disk is full) ends the command everywhere. */
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
    const session: Session = client.session(
      { argv: rest, env: environmentForHosts(), stdin: args.stdin === true },
      {
        output(host, fd, bytes) {
          const o = outputs.get(host)!;
          if (human) {
            guarded(() => {
              for (const line of wholeLines(o.bytes[fd], bytes)) writer.line(`${host}: ${line}`);
              writer.flush();
            });
            return;
          }
          const left = OUTPUT_BYTES_MAX - o.size[fd];
          if (left > 0) o.bytes[fd].push(Buffer.from(bytes.subarray(0, left)));
          o.size[fd] += bytes.length;
        },
        exit(host, how) {
          guarded(() => tell(host, how));
          if (session.running.length === 0) resolve();
        },
        drain: () => room?.(),
      },
    );
    for (const host of living) outputs.set(host, noOutput());
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

/** Takes what came after `tail`; gives the lines that are whole now and leaves the rest in `tail`. */
export function wholeLines(tail: Buffer[], bytes: Buffer): string[] {
  const last = bytes.lastIndexOf(10);
  if (last < 0) {
    tail.push(Buffer.from(bytes));
    // A line without an end is printed in pieces.
    const size = tail.reduce((sum, piece) => sum + piece.length, 0);
    return size < OUTPUT_BYTES_MAX ? [] : [Buffer.concat(tail.splice(0)).toString()];
  }
  const whole = Buffer.concat([...tail.splice(0), bytes.subarray(0, last)]).toString();
  if (last + 1 < bytes.length) tail.push(Buffer.from(bytes.subarray(last + 1)));
  return whole.split("\n");
}

function humanEnd(how: HostExit): string | undefined {
  if (how.error) return how.error.message;
  if (how.code === 0) return undefined;
  return how.signal ? `ended by ${how.signal}` : `exit code ${how.code}`;
}
