/**
 * The messages on the links of the tree. Down: from a client to `hosts`, by which each node routes them. Up: from one
 * `host` to the client of a `session`. A session is one command on many hosts; on each it is a pair of numbered byte
 * streams (session/stream.ts) between the client and the agent. The nodes between only route, so any of them may die.
 */
import type { MtError } from "../../../shared/errors.ts";
import type { Pass } from "./authority.ts";

/** Goes up by one with every change of frames or messages that an earlier release cannot read. */
export const PROTOCOL = 3;
/** Bytes of a stream that may be sent and not acknowledged, each way; so a slow host keeps no more than this from others. */
const WINDOW_BYTES_MAX = 256 * 1024;
const WINDOW_BYTES_MIN = 64 * 1024;
/** For all hosts together, while each has at least the minimum: nodes near the root then buffer no more for more hosts. */
const WINDOWS_BYTES = 8 * 2 ** 20;

/** The window of each host, where a command runs on so many. */
export const windowFor = (hosts: number) =>
  Math.min(WINDOW_BYTES_MAX, Math.max(WINDOW_BYTES_MIN, Math.floor(WINDOWS_BYTES / Math.max(1, hosts))));

/** A host as a node sees it: every agent process has a new `epoch`; `join` counts the links that it has made to a parent. */
export interface Presence {
  host: string;
  epoch: string;
  join: number;
  parent: string;
  release: string;
  /** Which other nodes may announce this host. */
  pass?: Pass;
}

/** Checks a presence that a peer sent and drops fields that do not belong there; undefined where it is none. */
export function presenceFrom(told: Partial<Presence> | null): Presence | undefined {
  const { host, epoch, join, parent, release, pass } = told ?? {};
  const isText = (...values: unknown[]) => values.every((v) => typeof v === "string");
  if (!isText(host, epoch, parent, release) || typeof join !== "number") return undefined;
  const presence = { host, epoch, join, parent, release } as Presence;
  if (pass === undefined) return presence;
  const { relays, signature } = pass ?? {};
  if (!Array.isArray(relays) || !isText(signature, ...relays)) return undefined;
  return { ...presence, pass: { relays, signature } };
}

/** What changes on a host, measured when a client asks. */
export interface Vitals {
  /** Load average over one minute. */
  load: number;
  mem_available_mib: number;
  /** Resident memory of the agent itself. */
  rss_mib: number;
  /** MTU of the interface that has the host's address. */
  mtu?: number;
}

export type LinkMessage =
  | { type: "hello"; protocol: number; release: string; presences: Presence[] }
  | { type: "welcome"; name: string }
  | { type: "refused"; error: MtError }
  /** `ended`: hosts whose own link to us ended; the others in `gone` were below those and may join another ancestor. */
  | { type: "routes"; add: Presence[]; gone: Presence[]; ended: string[] }
  /** To an agent: another agent announces the same host and gets its messages, or does so no longer. */
  | { type: "place"; taken: boolean }
  | { type: "ping"; at: number }
  | { type: "pong"; at: number };

/** A command that a client asks for. */
export interface Command {
  argv: string[];
  env: Record<string, string>;
  cwd?: string;
  stdin: boolean;
  /** Its stdout stays on the host until it has been reduced (running-reducer.ts). */
  keep_output?: boolean;
}

/** Where reducers run: one on this host, fed by those of `children`. */
export interface ReduceTree {
  host: string;
  /** Whether it is also fed with what the host's own command put out. */
  own: boolean;
  children: ReduceTree[];
}

/** From a client down to agents. `offset` counts bytes from the start of the stream: the payload's first byte, or how many have come. */
export type DownMessage =
  | ({ type: "run"; session: string; hosts: string[]; window: number } & Command)
  | { type: "stdin"; session: string; hosts: string[]; offset: number }
  | { type: "stdin_end"; session: string; hosts: string[]; offset: number }
  | { type: "output_ack"; session: string; hosts: string[]; offset: number }
  | { type: "sync"; session: string; hosts: string[]; offset: number }
  | { type: "kill"; session: string; hosts: string[]; signal: NodeJS.Signals }
  | { type: "close"; session: string; hosts: string[] }
  /** To a host that joined again: the sessions that its clients still know. It ends all others. */
  | { type: "alive"; hosts: string[]; sessions: string[] }
  /** The clients have everything of these sessions: they may be forgotten where the command has ended. */
  | { type: "forget"; hosts: string[]; sessions: string[] }
  | { type: "probe"; session: string; hosts: string[] }
  /** Starts a reducer over the output that the hosts kept; a later generation replaces an earlier one. */
  | {
      type: "reduce";
      session: string;
      hosts: string[];
      generation: number;
      argv: string[];
      env: Record<string, string>;
      tree: ReduceTree;
      to: string;
    }
  /** Asks for the reducer's output from `offset` on; answered to the host `to`, or to the client where that is "". */
  | {
      type: "pull_reduced";
      session: string;
      hosts: string[];
      generation: number;
      offset: number;
      to: string;
    };

/** From an agent up to the client. */
export type UpMessage =
  | { type: "output"; session: string; host: string; offset: number; fd: 1 | 2 }
  | { type: "stdin_ack"; session: string; host: string; offset: number }
  | {
      type: "exit";
      session: string;
      host: string;
      offset: number;
      code?: number;
      signal?: string;
      error?: MtError;
    }
  /** Answers `sync`: how much stdin has come here; `known: false` where the command never started. */
  | { type: "synced"; session: string; host: string; known: boolean; offset: number }
  | { type: "vitals"; session: string; host: string; vitals: Vitals; links: Record<string, number> }
  | {
      type: "reduced";
      session: string;
      host: string;
      generation: number;
      offset: number;
      to: string;
      last: boolean;
      error?: MtError;
    };

/** Between a client and the head. */
export type HeadMessage =
  | { type: "list" }
  /** The client has everything of this session from these hosts; the head tells them later, with `forget`. */
  | { type: "done"; session: string; hosts: string[] }
  /** All hosts of the tree. `reach`: those that the head connects to now, where links stay inside ssh. */
  | { type: "expect"; hosts: { name: string; addr: string; port: number }[]; reach: string[] }
  | { type: "listed"; hosts: HostStatus[] }
  | { type: "joined"; host: string; epoch: string; parent: string }
  | { type: "lost"; host: string; since: string };

export interface HostStatus {
  host: string;
  addr: string;
  present: boolean;
  /** Not present and not yet lost: it joins another ancestor in a moment, or `lost` follows. */
  moving?: boolean;
  /** Since when it is present, or missing (UTC, RFC 3339). */
  since: string;
  epoch?: string;
  release?: string;
  parent?: string;
  depth?: number;
  /** Round trip of the link to its parent, where that is the head. */
  rtt_ms?: number;
}

export type Message = LinkMessage | DownMessage | UpMessage | HeadMessage;
const DOWN = new Set([
  "run",
  "stdin",
  "stdin_end",
  "output_ack",
  "sync",
  "kill",
  "close",
  "alive",
  "forget",
  "probe",
  "reduce",
  "pull_reduced",
]);
const UP = new Set(["output", "stdin_ack", "exit", "synced", "vitals", "reduced"]);
export const isDown = (m: Message): m is DownMessage => DOWN.has(m.type);
export const isUp = (m: Message): m is UpMessage => UP.has(m.type);
