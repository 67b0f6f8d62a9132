/**
 * What travels on the links of the tree. Down: to hosts, routed by `h` or `hs`. Up: from a host to the
 * client of a session `s`. A session on a host is a pair of numbered byte streams, end to end between the
 * client and the agent: the nodes between only route, so that any of them may die.
 */
import type { MtError } from "../../shared/errors.ts";

/** Raised when links cannot talk to each other any more. */
export const PROTOCOL = 1;
/** Bytes of a stream that may be under way unacknowledged: what a slow host can hold back. */
export const WINDOW_BYTES = 512 * 1024;

/** A host as a node sees it: `epoch` is new with every agent process, `join` counts its links. */
export interface Presence {
  host: string;
  epoch: string;
  join: number;
  parent: string;
}

export type LinkMessage =
  | { t: "hello"; protocol: number; release: string; presences: Presence[] }
  | { t: "welcome"; name: string }
  | { t: "refused"; error: MtError }
  | { t: "routes"; add: Presence[]; gone: Presence[] }
  | { t: "ping"; at: number }
  | { t: "pong"; at: number };

/** From a client down to agents. `o` is the offset of the payload's first byte in the stream. */
export type DownMessage =
  | {
      t: "start";
      s: string;
      hs: string[];
      argv: string[];
      env: Record<string, string>;
      cwd?: string;
      stdin: boolean;
    }
  | { t: "in"; s: string; hs: string[]; o: number }
  | { t: "eof"; s: string; hs: string[]; o: number }
  | { t: "ack"; s: string; hs: string[]; o: number }
  | { t: "sync"; s: string; hs: string[]; o: number }
  | { t: "kill"; s: string; hs: string[]; signal: NodeJS.Signals }
  | { t: "close"; s: string; hs: string[] };

/** From an agent up to the client. */
export type UpMessage =
  | { t: "started"; s: string; h: string; epoch: string }
  | { t: "out"; s: string; h: string; o: number; fd: 1 | 2 }
  | { t: "credit"; s: string; h: string; o: number }
  | { t: "exit"; s: string; h: string; o: number; code?: number; signal?: string; error?: MtError }
  /** The answer to `sync`: how far stdin has come here; `known: false` where the command never started. */
  | { t: "synced"; s: string; h: string; known: boolean; o: number };

/** Between a client and the head. */
export type HeadMessage =
  | { t: "list" }
  | { t: "expect"; hosts: { name: string; addr: string; port: number }[] }
  | { t: "listed"; hosts: HostStatus[] }
  | { t: "joined"; h: string; epoch: string }
  | { t: "lost"; h: string; since: string };

export interface HostStatus {
  host: string;
  addr: string;
  present: boolean;
  /** Since when it is there, or missing (UTC, RFC 3339). */
  since: string;
  parent?: string;
  depth?: number;
  rtt_ms?: number;
}

export type Message = LinkMessage | DownMessage | UpMessage | HeadMessage;
const DOWN = new Set(["start", "in", "eof", "ack", "sync", "kill", "close"]);
const UP = new Set(["started", "out", "credit", "exit", "synced"]);
export const isDown = (m: Message): m is DownMessage => DOWN.has(m.t);
export const isUp = (m: Message): m is UpMessage => UP.has(m.t);
