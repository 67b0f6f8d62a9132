/**
 * What hosts hold of their commands' output, reduced on the way up: a reducer runs at every inner node, on what its
 * own command and the reducers below it put out, and at last here. What the hosts hold stays until we have the end
 * result: where a node dies or comes by another way, the reduction is done again over the tree that there is then.
 */
import { ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import { CHUNK_BYTES } from "../link/frames.ts";
import type { HostStatus, ReduceTree, UpMessage } from "../link/messages.ts";
import { launcher } from "../node/command.ts";
import type { TreeClient } from "../session/client.ts";
import { type Reducer, Reduction } from "../session/reduction.ts";
import type { Session } from "../session/session.ts";

/** After a change of the tree, how long to wait for what else changes. */
const SETTLE_MS = 200;
/** A reduction that says nothing for this long is asked for again over the tree that there is then. */
const SILENT_MS = 30_000;
const GENERATIONS_MAX = 20;

export class TreeReduction {
  readonly #client: TreeClient;
  readonly #session: Session;
  readonly #reducer: Reducer;
  readonly #put: (bytes: Buffer) => void;
  /** Hosts that hold output which has not been lost. */
  readonly #holding: Set<string>;
  readonly #lost: string[] = [];
  #g = 0;
  #stopped = false;
  #current: Reduction | undefined;
  /** Called where the generation under way cannot end well. */
  #again: (() => void) | undefined;

  /**
   * @param holding hosts whose command has ended well
   * @param put takes the end result, once it is whole
   */
  constructor(
    client: TreeClient,
    session: Session,
    reducer: Reducer,
    holding: Iterable<string>,
    put: (bytes: Buffer) => void,
  ) {
    this.#client = client;
    this.#session = session;
    this.#reducer = reducer;
    this.#put = put;
    this.#holding = new Set(holding);
  }

  /** A host came by another way, or is gone. */
  moved(host: string, gone: boolean): void {
    if (gone && this.#holding.delete(host)) this.#lost.push(host);
    this.#again?.();
  }

  piece(
    { generation: g, host: h, offset: o, last, error }: Extract<UpMessage, { type: "reduced" }>,
    payload: Buffer,
  ): void {
    if (g === this.#g) this.#current?.piece(h, o, last, error && at(error, h), payload);
  }

  /** Interrupted, or out of time. */
  stop(): void {
    this.#stopped = true;
    this.#again?.();
  }

  /** Gives the hosts whose output was lost before it could be taken in. */
  async run(): Promise<Result<string[], MtError>> {
    try {
      while (!this.#stopped) {
        // Also those that were lost before there was a reduction that could be told.
        for (const host of [...this.#holding])
          if (this.#client.headLost === undefined && this.#session.isLost(host)) this.moved(host, true);
        const listed = await this.#client.list();
        if (listed.isErr()) return listed.map(() => []);
        const present = new Map(listed.value.flatMap((h) => (h.present ? [[h.host, h]] : [])));
        // One on its way to another parent is there in a moment, or told to be gone.
        if ([...this.#holding].some((host) => !present.has(host))) {
          await settle();
          continue;
        }
        if (++this.#g > GENERATIONS_MAX)
          return fail("failed", `Cannot reduce: the tree changed ${GENERATIONS_MAX} times meanwhile`);
        const outcome = await this.#generation(plansOf(present, this.#holding));
        if (outcome === "again") {
          await settle();
          continue;
        }
        if (outcome) return fail(outcome.code, outcome.message, outcome.hint);
        const { out } = this.#current!;
        for (let o = 0; o < out.size; o += CHUNK_BYTES) this.#put(out.read(o, CHUNK_BYTES));
        return ok(this.#lost);
      }
      return fail("failed", "Cannot reduce: it was ended before");
    } finally {
      this.#current?.close();
    }
  }

  /** One try over one tree: an error of the reducer's is final, anything else may be tried again. */
  #generation(plans: ReduceTree[]): Promise<MtError | "again" | undefined> {
    const { id } = this.#session;
    const g = this.#g;
    this.#current?.close();
    for (const tree of plans)
      this.#session.send({
        type: "reduce",
        session: id,
        generation: g,
        hosts: [tree.host],
        ...this.#reducer,
        tree,
        to: "",
      });
    return new Promise((resolve) => {
      let silent: NodeJS.Timeout;
      const end = (outcome: MtError | "again" | undefined) => {
        clearTimeout(silent);
        this.#again = undefined;
        resolve(outcome);
      };
      const heard = () => {
        clearTimeout(silent);
        silent = setTimeout(() => end("again"), SILENT_MS);
      };
      heard();
      this.#again = () => end("again");
      this.#current = new Reduction(
        launcher(),
        this.#reducer,
        undefined,
        plans.map((p) => p.host),
        {
          pull: (kid, o) => {
            heard();
            this.#session.send({
              type: "pull_reduced",
              session: id,
              generation: g,
              hosts: [kid],
              offset: o,
              to: "",
            });
          },
          progress: () => {
            const { done } = this.#current ?? {};
            if (done && g === this.#g) end(done.error);
          },
        },
      );
    });
  }
}

const settle = () => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
const at = (error: MtError, host: string): MtError =>
  error.message.includes(" at ")
    ? error
    : mtError(error.code, error.message.replace(/^Cannot reduce/, `Cannot reduce at ${host}`), error.hint);

/** The tree as it stands, without branches that hold nothing. */
function plansOf(present: ReadonlyMap<string, HostStatus>, holding: ReadonlySet<string>): ReduceTree[] {
  const plans = new Map<string, ReduceTree>();
  const tops: ReduceTree[] = [];
  const planOf = (host: string): ReduceTree => {
    const known = plans.get(host);
    if (known) return known;
    const plan: ReduceTree = { host, own: holding.has(host), children: [] };
    plans.set(host, plan);
    const parent = present.get(host)?.parent;
    if (parent !== undefined && present.has(parent)) planOf(parent).children.push(plan);
    else tops.push(plan);
    return plan;
  };
  for (const host of holding) planOf(host);
  return tops;
}
