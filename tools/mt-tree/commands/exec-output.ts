/**
 * What mt-tree exec prints: an exit record for each host, lines with the host's name in front, or equal outputs once
 * under the node set of their hosts. How much output is kept is bounded, whatever a command prints.
 */
import { createHash } from "node:crypto";
import { plain } from "../../../shared/cli/plain.ts";
import { foldNodes } from "../../../shared/nodeset/fold.ts";
import { printed } from "../../../shared/records/output.ts";
import { LineWriter, StdoutClosed } from "../../../shared/stream/writer.ts";
import type { CommandEnd } from "../node/command.ts";

/** How much of each stream of each host is kept; the rest is cut, and the output says so. */
export const OUTPUT_BYTES_MAX = 1024 * 1024;
/** Once this much is kept in all, no stream keeps more than a small share. */
const KEPT_BYTES_MAX = 256 * 1024 * 1024;
const SMALL_SHARE_BYTES = 64 * 1024;

export interface Printer {
  /** Throws, as `exit` and `end` do, where stdout is closed or the disk is full. */
  output(host: string, fd: 1 | 2, bytes: Buffer): void;
  exit(host: string, how: CommandEnd, seconds: number): void;
  /** All hosts have ended. */
  end(): void;
}

/** A buffer that grows: appending small pieces costs no more than their own size. */
export class Bytes {
  #room = Buffer.alloc(0);
  length = 0;

  append(bytes: Uint8Array): void {
    if (this.length + bytes.length > this.#room.length) {
      const larger = Buffer.allocUnsafe(Math.max(2 * this.#room.length, this.length + bytes.length, 256));
      this.#room.copy(larger, 0, 0, this.length);
      this.#room = larger;
    }
    this.#room.set(bytes, this.length);
    this.length += bytes.length;
  }

  get all(): Buffer {
    return this.#room.subarray(0, this.length);
  }
}

interface Output {
  1: Bytes;
  2: Bytes;
  /** How many bytes came, with those that were not kept. */
  size: { 1: number; 2: number };
}
const noOutput = (): Output => ({ 1: new Bytes(), 2: new Bytes(), size: { 1: 0, 2: 0 } });

/** The outputs of hosts that have not ended; how much is kept is bounded. */
class Outputs {
  readonly #of = new Map<string, Output>();
  #kept = 0;

  keep(host: string, fd: 1 | 2, bytes: Buffer): void {
    let o = this.#of.get(host);
    if (!o) this.#of.set(host, (o = noOutput()));
    const most = this.#kept < KEPT_BYTES_MAX ? OUTPUT_BYTES_MAX : SMALL_SHARE_BYTES;
    // A stream that was cut keeps nothing more: there would be a gap.
    if (o.size[fd] === o[fd].length && o[fd].length < most) {
      const piece = bytes.subarray(0, most - o[fd].length);
      o[fd].append(piece);
      this.#kept += piece.length;
    }
    o.size[fd] += bytes.length;
  }

  /** Takes what a host printed; it counts as kept until `forget`. */
  take(host: string): Output {
    const o = this.#of.get(host) ?? noOutput();
    this.#of.delete(host);
    return o;
  }

  forget(bytes: number): void {
    this.#kept -= bytes;
  }
}

const isCut = (o: Output, fd: 1 | 2) => o.size[fd] > o[fd].length;

export function recordPrinter(): Printer {
  const kept = new Outputs();
  const writer = new LineWriter();
  return {
    output: (host, fd, bytes) => kept.keep(host, fd, bytes),
    exit(host, how, seconds) {
      const o = kept.take(host);
      kept.forget(o[1].length + o[2].length);
      const record = {
        kind: "exit",
        id: host,
        host,
        code: how.code,
        signal: how.signal,
        ...printed("stdout", o[1].all, isCut(o, 1)),
        ...printed("stderr", o[2].all, isCut(o, 2)),
        truncated: isCut(o, 1) || isCut(o, 2) ? true : undefined,
        seconds: Number(seconds.toFixed(3)),
        ...(how.error ? { state: "failed", error: { by: "mt-tree", ...how.error } } : {}),
      };
      writer.line(JSON.stringify(record));
      writer.flush();
    },
    end() {},
  };
}

/** Prints every line as it comes, with the host's name in front, stdout and stderr each to its own. */
export function labelledPrinter(): Printer {
  const tails = { 1: new Map<string, Bytes>(), 2: new Map<string, Bytes>() };
  const out = bothStreams();
  return {
    output(host, fd, bytes) {
      let tail = tails[fd].get(host);
      if (!tail) tails[fd].set(host, (tail = new Bytes()));
      for (const line of wholeLines(tail, bytes)) out[fd].line(`${host}: ${line}`);
      out[fd].flush();
    },
    exit(host, how) {
      for (const fd of [1, 2] as const) {
        const tail = tails[fd].get(host);
        if (tail && tail.length > 0) out[fd].line(`${host}: ${tail.all}`);
        out[fd].flush();
        tails[fd].delete(host);
      }
      const why = endOf(host, how);
      if (why !== undefined) out[2].line(plain(why.replaceAll(HOST, host)));
      out[2].flush();
    },
    end() {},
  };
}

/** An output, and the hosts that printed it. */
interface Same {
  hosts: string[];
  bytes: Buffer;
}

/** Prints equal outputs once, under the node set of their hosts; likewise on stderr how hosts ended, where not with 0. */
export function foldedPrinter(asked: readonly string[]): Printer {
  const place = new Map(asked.map((host, i) => [host, i]));
  /** Sorts hosts, and groups of them, in the order in which they were asked for, not in which they ended. */
  const inOrder = <T extends { hosts: string[] }>(list: Iterable<T>): T[] => {
    const sorted = [...list];
    for (const { hosts } of sorted) hosts.sort((a, b) => place.get(a)! - place.get(b)!);
    return sorted.sort((a, b) => place.get(a.hosts[0]!)! - place.get(b.hosts[0]!)!);
  };
  const kept = new Outputs();
  const groups = { 1: new Map<string, Same>(), 2: new Map<string, Same>() };
  const ends = new Map<string, { what: string; hosts: string[] }>();
  const note = (what: string, host: string) => {
    const known = ends.get(what);
    if (known) known.hosts.push(host);
    else ends.set(what, { what, hosts: [host] });
  };
  return {
    output: (host, fd, bytes) => kept.keep(host, fd, bytes),
    exit(host, how) {
      const output = kept.take(host);
      for (const fd of [1, 2] as const) {
        if (isCut(output, fd))
          note(`${HOST}: ${fd === 1 ? "stdout" : "stderr"} cut after ${output[fd].length} bytes`, host);
        if (output[fd].length === 0) continue;
        const key = createHash("sha256").update(output[fd].all).digest("base64");
        const same = groups[fd].get(key);
        if (same) kept.forget(output[fd].length);
        if (same) same.hosts.push(host);
        else groups[fd].set(key, { hosts: [host], bytes: output[fd].all });
      }
      const why = endOf(host, how);
      if (why !== undefined) note(why, host);
    },
    end() {
      const out = bothStreams();
      for (const fd of [1, 2] as const) {
        for (const { hosts, bytes } of inOrder(groups[fd].values())) {
          out[fd].line(`--- ${foldNodes(hosts)} (${hosts.length}) ---`);
          out[fd].line(bytes.toString().replace(/\n$/, ""));
        }
        out[fd].flush();
      }
      for (const { what, hosts } of inOrder(ends.values()))
        out[2].line(plain(what.replaceAll(HOST, foldNodes(hosts))));
      out[2].flush();
    },
  };
}

/** Writers for stdout and stderr. That stderr is closed is no error. */
function bothStreams() {
  const err = new LineWriter(2);
  const quiet = (write: () => void) => {
    try {
      write();
    } catch (thrown) {
      if (!(thrown instanceof StdoutClosed)) throw thrown;
    }
  };
  return {
    1: new LineWriter(),
    2: { line: (text: string) => quiet(() => err.line(text)), flush: () => quiet(() => err.flush()) },
  };
}

/** Adds bytes to `tail`; gives the lines that are whole now, and leaves the rest in `tail`. */
export function wholeLines(tail: Bytes, bytes: Buffer): string[] {
  const last = bytes.lastIndexOf(10);
  tail.append(last < 0 ? bytes : bytes.subarray(0, last));
  // A line that does not end is printed in pieces.
  if (last < 0 && tail.length < OUTPUT_BYTES_MAX) return [];
  const whole = tail.all.toString();
  tail.length = 0;
  if (last >= 0) tail.append(bytes.subarray(last + 1));
  return last < 0 ? [whole] : whole.split("\n");
}

/** Stands for the host's name in a message, so that messages of several hosts can be compared. */
const HOST = "\0";

/** How the command ended, as a message; undefined where its exit code was 0. */
function endOf(host: string, how: CommandEnd): string | undefined {
  const named = (name: string) => new RegExp(`(?<![\\w.-])${name.replaceAll(".", "\\.")}(?![\\w-])`, "g");
  if (how.error) {
    const { message, hint } = how.error;
    const text = message.replaceAll(named(host), HOST);
    return `${text.includes(HOST) ? "" : `${HOST}: `}${text}${hint ? ` (${hint})` : ""}`;
  }
  if (how.code === 0) return undefined;
  return `${HOST}: ${how.signal ? `ended by ${how.signal}` : `exit code ${how.code}`}`;
}
