/**
 * The reductions that run at this node for clients. What a host's command put out stays there until the
 * client has the end result, so a reduction can be done again over another tree: whoever dies in between
 * costs time, and no line is taken in twice. A later generation takes the place of an earlier one.
 */
import { mtError } from "../../../shared/errors.ts";
import { CHUNK_BYTES } from "../link/frames.ts";
import type { DownMessage, UpMessage } from "../link/messages.ts";
import type { Launch } from "../node/command.ts";
import type { SendUp } from "./host-session.ts";
import { Reduction } from "./reduction.ts";
import type { Spool } from "./spool.ts";

/** To hosts below this one. */
export type SendDown = (message: DownMessage, payload: Buffer) => void;

interface Entry {
  g: number;
  reduction: Reduction;
  /** What has been asked for and could not be given yet. */
  asked: { o: number; to: string } | undefined;
}

const EMPTY = Buffer.alloc(0);

export class Reductions {
  readonly #entries = new Map<string, Entry>();
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

  begin(message: Extract<DownMessage, { type: "reduce" }>, own: Spool | undefined): void {
    const { session: s, generation: g, argv, env, tree } = message;
    const earlier = this.#entries.get(s);
    if (earlier && earlier.g >= g) return;
    earlier?.reduction.close();
    this.#entries.delete(s);
    if (tree.own && !own) {
      const error = mtError(
        "lost",
        `Cannot reduce what ${this.#host} put out: it is no longer there`,
        "run it again",
      );
      return this.#send(
        {
          type: "reduced",
          session: s,
          host: this.#host,
          generation: g,
          offset: 0,
          to: message.to,
          last: true,
          error,
        },
        EMPTY,
      );
    }
    for (const kid of tree.children)
      this.#sendDown(
        {
          type: "reduce",
          session: s,
          generation: g,
          hosts: [kid.host],
          argv,
          env,
          tree: kid,
          to: this.#host,
        },
        EMPTY,
      );
    const reduction = new Reduction(
      this.#launch,
      { argv, env },
      tree.own ? own : undefined,
      tree.children.map((k) => k.host),
      {
        pull: (kid, o) =>
          this.#sendDown(
            { type: "pull_reduced", session: s, generation: g, hosts: [kid], offset: o, to: this.#host },
            EMPTY,
          ),
        progress: () => this.#answer(s, g),
      },
    );
    this.#entries.set(s, { g, reduction, asked: undefined });
  }

  pull({ session: s, generation: g, offset: o, to }: Extract<DownMessage, { type: "pull_reduced" }>): void {
    const entry = this.#entries.get(s);
    if (entry?.g !== g) return;
    entry.asked = { o, to };
    this.#answer(s, g);
  }

  #answer(s: string, g: number): void {
    const entry = this.#entries.get(s);
    if (entry?.g !== g || !entry.asked) return;
    const { o, to } = entry.asked;
    const { out, done } = entry.reduction;
    if (out.size - o < CHUNK_BYTES && !done) return;
    entry.asked = undefined;
    const bytes = out.read(o, CHUNK_BYTES);
    const last = done !== undefined && o + bytes.length >= out.size;
    this.#send(
      {
        type: "reduced",
        session: s,
        host: this.#host,
        generation: g,
        offset: o,
        to,
        last,
        error: done?.error,
      },
      bytes,
    );
  }

  piece(
    { session: s, generation: g, host: h, offset: o, last, error }: Extract<UpMessage, { type: "reduced" }>,
    payload: Buffer,
  ): void {
    const entry = this.#entries.get(s);
    if (entry?.g === g) entry.reduction.piece(h, o, last, error, payload);
  }

  close(s: string): void {
    this.#entries.get(s)?.reduction.close();
    this.#entries.delete(s);
  }

  closeAllBut(alive: ReadonlySet<string>): void {
    for (const s of [...this.#entries.keys()]) if (!alive.has(s)) this.close(s);
  }
}
