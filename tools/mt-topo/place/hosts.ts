/**
 * The hosts that a plan is placed on: the `host` records of a file, or the members of a node set. What is known of a
 * member comes from the tree, the plan, DNS, or at last from the numbering of `mt-tree up --via local`.
 */
import { lookup } from "node:dns/promises";
import { existsSync, statSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { err, ok, type Result } from "neverthrow";
import { formatIp, parseIp } from "../../../shared/addresses.ts";
import { inform } from "../../../shared/cli/stderr.ts";
import { EXIT, exitCodeOf, fail, type MtError } from "../../../shared/errors.ts";
import { run, toolCommand } from "../../../shared/host/process.ts";
import { foldNodes } from "../../../shared/nodeset/fold.ts";
import { namedHosts } from "../../../shared/nodeset/groups.ts";
import { hostSchema } from "../../../shared/records/host.ts";
import type { Host } from "../../../shared/records/index.ts";
import type { RawLine } from "../../../shared/stream/lines.ts";
import { linesFrom } from "../../../shared/stream/lines.ts";
import { checkRecord, readRecord } from "../../../shared/stream/record-line.ts";
import { chunksOf } from "../formats/input.ts";
import { type Came, unknownFields } from "../plan/plan.ts";

const LOCAL_NETWORK = parseIp("10.254.0.0")._unsafeUnwrap();
const LOCAL_HOSTS_MAX = 65_534;
const STATUS_TIMEOUT_S = 10;
const DNS_TIMEOUT_MS = 3_000;
const DNS_AT_ONCE = 16;

export interface Hosts {
  /** Hosts that can be placed on. */
  usable: Host[];
  /** Names of hosts that failed. */
  failed: string[];
}

/**
 * @param planned host records of the plan itself
 * @param came their lines, by name; lines of a file replace them
 */
export async function readHosts(
  word: string,
  planned: readonly Host[],
  came: Map<string, Came>,
  signal: AbortSignal,
): Promise<Result<Hosts, MtError>> {
  const isFile = existsSync(word) && !statSync(word).isDirectory();
  const hosts = isFile
    ? await hostRecords(linesFrom(chunksOf(word, signal)), word, came)
    : await fromSet(word, planned, signal);
  if (hosts.isErr()) return err(hosts.error);
  const failed = hosts.value.filter(({ state }) => state === "failed").map(({ id }) => id);
  // Whether a host is up is true only now, and no part of a plan.
  const usable = hosts.value
    .filter(({ state }) => state !== "failed")
    .map(({ state: _state, error: _error, ...rest }) => rest);
  if (usable.length === 0)
    return fail(
      "data",
      `Cannot place on ${word}: ${failed.length > 0 ? "all its hosts failed" : "it has no host records"}`,
      "mt-tree up HOSTS prints host records",
    );
  return ok({ usable, failed });
}

/** The `host` records of a stream; one with the same id replaces the older. */
async function hostRecords(
  lines: AsyncIterable<RawLine> | Iterable<RawLine>,
  source: string,
  came: Map<string, Came>,
): Promise<Result<Host[], MtError>> {
  const hosts = new Map<string, Host>();
  let n = 0;
  for await (const raw of lines) {
    n++;
    const unread = (why: string) =>
      fail<Host[]>("data", `Cannot read ${source} line ${n}: ${why}`, "mt-tree up HOSTS prints host records");
    const read = readRecord(raw);
    if (read === undefined) continue;
    if ("why" in read) return unread(read.why);
    const { line, deep } = read;
    if (line.kind !== "host") continue;
    const host = checkRecord("host", line, deep);
    if (host.isErr()) return unread(host.error.message);
    hosts.set(host.value.id, host.value);
    came.set(host.value.id, { text: raw.text, record: host.value });
  }
  return ok([...hosts.values()]);
}

async function fromSet(
  word: string,
  planned: readonly Host[],
  signal: AbortSignal,
): Promise<Result<Host[], MtError>> {
  const names = namedHosts(word).mapErr((e) => {
    // The error of a group is clear already.
    if (word.startsWith("@")) return e;
    const hint = word.includes("/")
      ? "there is no such file either"
      : "a node set, as kn[1-4], or a file of host records";
    return {
      ...e,
      code: "usage" as const,
      message: `Cannot place on ${JSON.stringify(word.slice(0, 80))}: it is no file and no node set (${e.message})`,
      hint,
    };
  });
  if (names.isErr()) return err(names.error);
  if (names.value.length > LOCAL_HOSTS_MAX)
    return fail("usage", `Cannot place on ${names.value.length} hosts: ${LOCAL_HOSTS_MAX} at most`);
  const inTree = await fromTree(signal);
  if (inTree.isErr()) return err(inTree.error);
  const known = new Map(planned.map((host) => [host.id, host]));
  for (const host of inTree.value)
    known.set(host.id, { ...unknownFields(hostSchema, known.get(host.id)), ...host });
  const unknown = names.value.filter((name) => known.get(name)?.addr === undefined);
  const addresses = await fromDns(unknown, signal);
  const cores = Math.max(1, Math.floor(availableParallelism() / names.value.length));
  const mem_mib = Math.max(1, Math.floor(totalmem() / 2 ** 20 / names.value.length));
  const guessed: string[] = [];
  const hosts = names.value.map((id, i): Host => {
    const host = known.get(id) ?? { kind: "host", id, cores, mem_mib };
    if (host.addr !== undefined) return host;
    const addr = addresses.get(id);
    if (addr === undefined) guessed.push(id);
    const { kind, id: _id, addr: _addr, ...rest } = host;
    return { kind, id, addr: addr ?? formatIp(LOCAL_NETWORK + i + 1), ...rest };
  });
  if (guessed.length > 0)
    inform(
      `warning: no tree and no DNS knows ${shorten(foldNodes(guessed))}: addresses as of mt-tree up --via local, counted from 10.254.0.1`,
    );
  return ok(hosts);
}

const shorten = (text: string) => (text.length > 60 ? `${text.slice(0, 57)}...` : text);

/** How `mt-tree status` ends where a host is missing; all host records are there. */
const SOME_MISSING = exitCodeOf("failed");

/** The hosts of the tree that is up here, also those that are missing; none where no tree answers. */
async function fromTree(signal: AbortSignal): Promise<Result<Host[], MtError>> {
  const [program, ...first] = toolCommand("mt-tree");
  const done = await run(program!, [...first, "status", "--records"], {
    timeout_s: STATUS_TIMEOUT_S,
    signal,
  });
  // This tool may stand alone on a machine that has no mt-tree.
  if (done.isErr()) return done.error.code === "unavailable" ? ok([]) : err(done.error);
  const { code, stderr } = done.value;
  if (code === EXIT.unavailable) return ok([]);
  if (code !== EXIT.ok && code !== SOME_MISSING)
    return fail("failed", `Cannot ask the tree for its hosts: ${stderr.split("\n")[0]}`, "mt-tree status");
  const hosts = await hostRecords(
    done.value.stdout.split("\n").map((text) => ({ text })),
    "mt-tree status",
    new Map(),
  );
  const plain = ({ kind, id, addr, cores, mem_mib, mtu, state }: Host): Host => ({
    kind,
    id,
    addr,
    cores,
    mem_mib,
    ...(mtu === undefined ? {} : { mtu }),
    ...(state ? { state } : {}),
  });
  return hosts.map((all) => all.map(plain));
}

/** IPv4 addresses by name, as far as DNS answers in time. Loopback addresses are left out: other hosts cannot use them. */
async function fromDns(names: readonly string[], signal: AbortSignal): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  let next = 0;
  let stopped = false;
  const ask = async (until: number) => {
    while (next < until && !stopped && !signal.aborted) {
      const name = names[next++]!;
      try {
        const { address } = await lookup(name, { family: 4 });
        if (!stopped && !(address.startsWith("127.") && names.length > 1)) found.set(name, address);
      } catch {
        // An unknown name is no error here: it stays without an address.
      }
    }
  };
  const askAll = async () => {
    const first = Math.min(DNS_AT_ONCE, names.length);
    await Promise.all(Array.from({ length: first }, () => ask(first)));
    // The names of a set follow one rule: if none of the first is known, the others are not asked for.
    if (found.size > 0) await Promise.all(Array.from({ length: first }, () => ask(names.length)));
  };
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, DNS_TIMEOUT_MS);
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await Promise.race([askAll(), tooLate]);
  clearTimeout(timer);
  stopped = true;
  return found;
}
