/**
 * The reducers that run on this host for clients, by session. What a host's command put out stays there until the
 * client has the end result, so a reduction can be done again over another tree: a node that dies costs time, and no
 * line is counted twice. A reducer of a later generation replaces one of an earlier.
 */
import { mtError } from "../../../shared/errors.ts";
import { CHUNK_BYTES } from "../link/frames.ts";
import type { DownMessage, UpMessage } from "../link/messages.ts";
import type { Launch } from "../node/command.ts";
import type { SendUp } from "./host-session.ts";
import { RunningReducer } from "./running-reducer.ts";
import type { Spool } from "./spool.ts";

/** Sends a message to hosts below this one. */
export type SendDown = (message: DownMessage, payload: Buffer) => void;

interface Row {
  generation: number;
  reducer: RunningReducer;
  /** What somebody has asked for and does not have yet. */
  asked: { offset: number; to: string } | undefined;
}

const EMPTY = Buffer.alloc(0);

export class ReducerTable {
  readonly #rows = new Map<string, Row>();
  readonly #host: string;
  readonly #launch: Launch;
  readonly #send: SendUp;
  readonly #sendDown: SendDown;

  constructor(host: string, launch: Launch, send: SendUp, sendDown: SendDown) {
    this.#host = host;
    this.#launch = launch;
    this.#send = send;
    this.#sendDown = sendDown;
  }

  /** @param own what this host's command put out, where that is still here */
  begin(message: Extract<DownMessage, { type: "reduce" }>, own: Spool | undefined): void {
    const { session, generation, argv, env, tree, to } = message;
    const earlier = this.#rows.get(session);
    if (earlier && earlier.generation >= generation) return;
    this.close(session);
    if (tree.own && !own) {
      const error = mtError(
        "lost",
        `Cannot reduce what ${this.#host} put out: it is no longer there`,
        "run it again",
      );
      const from = { session, host: this.#host, generation };
      return this.#send({ type: "reduced", ...from, offset: 0, to, last: true, error }, EMPTY);
    }
    const below = { session, generation, to: this.#host };
    for (const child of tree.children)
      this.#sendDown({ type: "reduce", ...below, hosts: [child.host], argv, env, tree: child }, EMPTY);
    const reducer = new RunningReducer(
      this.#launch,
      { argv, env },
      tree.own ? own : undefined,
      tree.children.map((child) => child.host),
      {
        pull: (child, offset) =>
          this.#sendDown({ type: "pull_reduced", ...below, hosts: [child], offset }, EMPTY),
        progress: () => this.#answer(session, generation),
      },
    );
    this.#rows.set(session, { generation, reducer, asked: undefined });
  }

  pull({ session, generation, offset, to }: Extract<DownMessage, { type: "pull_reduced" }>): void {
    const row = this.#rows.get(session);
    if (row?.generation !== generation) return;
    row.asked = { offset, to };
    this.#answer(session, generation);
  }

  /** Sends what was asked for, once there is a whole chunk of it or the reducer has ended. */
  #answer(session: string, generation: number): void {
    const row = this.#rows.get(session);
    if (row?.generation !== generation || !row.asked) return;
    const { offset, to } = row.asked;
    const { out, done } = row.reducer;
    if (out.size - offset < CHUNK_BYTES && !done) return;
    row.asked = undefined;
    const bytes = out.read(offset, CHUNK_BYTES);
    const last = done !== undefined && offset + bytes.length >= out.size;
    const from = { session, host: this.#host, generation };
    this.#send({ type: "reduced", ...from, offset, to, last, error: done?.error }, bytes);
  }

  /** A part of what the reducer on a host below has put out. */
  reduced(message: Extract<UpMessage, { type: "reduced" }>, payload: Buffer): void {
    const { session, generation, host, offset, last, error } = message;
    const row = this.#rows.get(session);
    if (row?.generation === generation) row.reducer.reduced(host, offset, last, error, payload);
  }

  close(session: string): void {
    this.#rows.get(session)?.reducer.close();
    this.#rows.delete(session);
  }

  closeAllBut(kept: ReadonlySet<string>): void {
    for (const session of [...this.#rows.keys()]) if (!kept.has(session)) this.close(session);
  }
}
