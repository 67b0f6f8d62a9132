/**
 * What travels on the links of the tree. Down: to hosts, routed by `hs`. Up: from a host `h` to the
 * client of a session `s`. A session on a host is a pair of numbered byte streams, end to end between the
 * client and the agent: the nodes between only route, so that any of them may die.
 */
import type { MtError } from "../../../shared/errors.ts";
import type { Pass } from "./authority.ts";

/** Raised when links cannot talk to each other any more. */
export const PROTOCOL = 2;
/** Bytes of a stream that may be under way unacknowledged, each way: what a slow host can hold back. */
const WINDOW_BYTES_MAX = 256 * 1024;
const WINDOW_BYTES_MIN = 64 * 1024;
/** Of all hosts together, as long as each has the least: so the nodes near the root hold no more for more hosts. */
const WINDOWS_BYTES = 8 * 2 ** 20;

/** The window of each of so many hosts. */
export const windowFor = (hosts: number) =>
  Math.min(WINDOW_BYTES_MAX, Math.max(WINDOW_BYTES_MIN, Math.floor(WINDOWS_BYTES / Math.max(1, hosts))));

/** A host as a node sees it: `epoch` is new with every agent process, `join` counts its links. */
export interface Presence {
  host: string;
  epoch: string;
  join: number;
  parent: string;
  release: string;
  /** Who may say this, besides the host itself. */
  pass?: Pass;
}

/** A presence as a peer tells it, with nothing in it but what belongs there; undefined where it is none. */
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

/** Of a host, what changes. */
export interface Vitals {
  /** Load over a minute, memory that is free for use. */
  load: number;
  mem_available_mib: number;
  /** Memory that the agent itself has resident. */
  rss_mib: number;
  /** The largest packet of the interface that has its address. */
  mtu?: number;
}

export type LinkMessage =
  | { t: "hello"; protocol: number; release: string; presences: Presence[] }
  | { t: "welcome"; name: string }
  | { t: "refused"; error: MtError }
  /** `ended`: hosts whose own link to us ended; the others in `gone` stood below those and may come elsewhere. */
  | { t: "routes"; add: Presence[]; gone: Presence[]; ended: string[] }
  /** To an agent: another has its place, or has it no more. */
  | { t: "place"; taken: boolean }
  | { t: "ping"; at: number }
  | { t: "pong"; at: number };

/** What a client wants run. */
export interface Command {
  argv: string[];
  env: Record<string, string>;
  cwd?: string;
  stdin: boolean;
  /** Its stdout stays on the host until it is reduced (reduce.ts). */
  hold?: boolean;
}

/** A reduction: a host, and those whose outputs it takes in. */
export interface ReducePlan {
  h: string;
  /** Whether the host's own output is part of it. */
  own: boolean;
  kids: ReducePlan[];
}

/** From a client down to agents. `o` is the offset of the payload's first byte in the stream. */
export type DownMessage =
  | ({ t: "start"; s: string; hs: string[]; window: number } & Command)
  | { t: "in"; s: string; hs: string[]; o: number }
  | { t: "eof"; s: string; hs: string[]; o: number }
  | { t: "ack"; s: string; hs: string[]; o: number }
  | { t: "sync"; s: string; hs: string[]; o: number }
  | { t: "kill"; s: string; hs: string[]; signal: NodeJS.Signals }
  | { t: "close"; s: string; hs: string[] }
  /** To a host that came back: the sessions that its clients still know. All others end. */
  | { t: "alive"; hs: string[]; sessions: string[] }
  /** Nobody asks for these any more, where they have ended. */
  | { t: "forget"; hs: string[]; sessions: string[] }
  | { t: "probe"; s: string; hs: string[] }
  /** Begins a reduction of what session `s` holds; a later generation `g` takes the place of an earlier. */
  | {
      t: "reduce";
      s: string;
      hs: string[];
      g: number;
      argv: string[];
      env: Record<string, string>;
      plan: ReducePlan;
      to: string;
    }
  /** Asks for what a reduction put out, from `o` on; answered to `to`, a host, or the client where it is "". */
  | { t: "pull"; s: string; hs: string[]; g: number; o: number; to: string };

/** From an agent up to the client. */
export type UpMessage =
  | { t: "out"; s: string; h: string; o: number; fd: 1 | 2 }
  | { t: "credit"; s: string; h: string; o: number }
  | { t: "exit"; s: string; h: string; o: number; code?: number; signal?: string; error?: MtError }
  /** The answer to `sync`: how far stdin has come here; `known: false` where the command never started. */
  | { t: "synced"; s: string; h: string; known: boolean; o: number }
  | { t: "vitals"; s: string; h: string; vitals: Vitals; links: Record<string, number> }
  | { t: "piece"; s: string; h: string; g: number; o: number; to: string; last: boolean; error?: MtError };

/** Between a client and the head. */
export type HeadMessage =
  | { t: "list" }
  /** The client has all that session `s` gave on these hosts: they may forget it, some time. */
  | { t: "done"; s: string; hs: string[] }
  /** `reach`: where the head reaches the hosts, not they it, it is to reach these now. */
  | { t: "expect"; hosts: { name: string; addr: string; port: number }[]; reach: string[] }
  | { t: "listed"; hosts: HostStatus[] }
  | { t: "joined"; h: string; epoch: string; parent: string }
  | { t: "lost"; h: string; since: string };

export interface HostStatus {
  host: string;
  addr: string;
  present: boolean;
  /** Not present, and not yet lost: it comes by another way in a moment, or `lost` follows. */
  moving?: boolean;
  /** Since when it is there, or missing (UTC, RFC 3339). */
  since: string;
  epoch?: string;
  release?: string;
  parent?: string;
  depth?: number;
  /** Of the link to its parent, where that is the head. */
  rtt_ms?: number;
}

export type Message = LinkMessage | DownMessage | UpMessage | HeadMessage;
const DOWN = new Set([
  "start",
  "in",
  "eof",
  "ack",
  "sync",
  "kill",
  "close",
  "alive",
  "forget",
  "probe",
  "reduce",
  "pull",
]);
const UP = new Set(["out", "credit", "exit", "synced", "vitals", "piece"]);
export const isDown = (m: Message): m is DownMessage => DOWN.has(m.t);
export const isUp = (m: Message): m is UpMessage => UP.has(m.t);
