/**
 * The client's side of `map --reduce`. Hosts keep what their commands put out. The coordinator asks every inner node of
 * the tree to run a reducer over its own part and those below it, and runs the last one here. Hosts keep their output
 * until we have the end result: where a node dies or joins another parent, the reduction is done again, as a new
 * generation, over the tree that there is then.
 */
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import { CHUNK_BYTES } from "../link/frames.ts";
import type { HostStatus, ReduceTree, UpMessage } from "../link/messages.ts";
import { launcher } from "../node/command.ts";
import type { TreeClient } from "../session/client.ts";
import { type ReduceCommand, RunningReducer } from "../session/running-reducer.ts";
import type { Session } from "../session/session.ts";

/** After a change of the tree, how long to wait for others. */
const SETTLE_MS = 200;
/** A reduction of which nothing is heard for this long is begun again over the tree that there is then. */
const SILENT_MS = 30_000;
const GENERATIONS_MAX = 20;

export class ReduceCoordinator {
  readonly #client: TreeClient;
  readonly #session: Session;
  readonly #command: ReduceCommand;
  readonly #put: (bytes: Buffer) => void;
  /** Hosts that keep output which has not been lost. */
  readonly #keeping: Set<string>;
  readonly #lost: string[] = [];
  #generation = 0;
  #stopped = false;
  /** The last reducer, which runs here. */
  #last: RunningReducer | undefined;
  /** Ends the generation under way, for another one. */
  #again: (() => void) | undefined;

  /**
   * @param keeping hosts whose command has ended well
   * @param put takes the end result, once it is whole
   */
  constructor(
    client: TreeClient,
    session: Session,
    command: ReduceCommand,
    keeping: Iterable<string>,
    put: (bytes: Buffer) => void,
  ) {
    this.#client = client;
    this.#session = session;
    this.#command = command;
    this.#put = put;
    this.#keeping = new Set(keeping);
  }

  /** A host has joined again, perhaps under another parent, or is gone. */
  moved(host: string, gone: boolean): void {
    if (gone && this.#keeping.delete(host)) this.#lost.push(host);
    this.#again?.();
  }

  /** A part of what a reducer right below us has put out. */
  reduced(message: Extract<UpMessage, { type: "reduced" }>, payload: Buffer): void {
    const { generation, host, offset, last, error } = message;
    if (generation !== this.#generation) return;
    this.#last?.reduced(host, offset, last, error && withHost(error, host), payload);
  }

  /** Interrupted, or out of time. */
  stop(): void {
    this.#stopped = true;
    this.#again?.();
  }

  /** Gives the hosts whose output was lost before it could be reduced. */
  async run(): Promise<Result<string[], MtError>> {
    try {
      while (!this.#stopped) {
        // Hosts may have been lost before there was a coordinator to be told.
        for (const host of [...this.#keeping])
          if (this.#client.headLost === undefined && this.#session.isLost(host)) this.moved(host, true);
        const listed = await this.#client.list();
        if (listed.isErr()) return err(listed.error);
        const present = new Map(listed.value.flatMap((h) => (h.present ? [[h.host, h]] : [])));
        // A host that is not there joins another parent in a moment, or is told to be gone.
        if ([...this.#keeping].some((host) => !present.has(host))) {
          await settle();
          continue;
        }
        if (++this.#generation > GENERATIONS_MAX)
          return fail("failed", `Cannot reduce: the tree changed ${GENERATIONS_MAX} times meanwhile`);
        const outcome = await this.#reduceOnce(treesOf(present, this.#keeping));
        if (outcome === "again") {
          await settle();
          continue;
        }
        if (outcome) return err(outcome);
        const { out } = this.#last!;
        for (let at = 0; at < out.size; at += CHUNK_BYTES) this.#put(out.read(at, CHUNK_BYTES));
        return ok(this.#lost);
      }
      return fail("failed", "Cannot reduce: it was ended before");
    } finally {
      this.#last?.close();
    }
  }

  /** One generation. Gives the error of a reducer, which is final, or "again" where the tree has changed. */
  #reduceOnce(trees: ReduceTree[]): Promise<MtError | "again" | undefined> {
    const generation = this.#generation;
    const below = { session: this.#session.id, generation, to: "" };
    this.#last?.close();
    for (const tree of trees)
      this.#session.send({ type: "reduce", ...below, hosts: [tree.host], ...this.#command, tree });
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
      this.#last = new RunningReducer(
        launcher(),
        this.#command,
        undefined,
        trees.map((tree) => tree.host),
        {
          pull: (child, offset) => {
            heard();
            this.#session.send({ type: "pull_reduced", ...below, hosts: [child], offset });
          },
          progress: () => {
            const { done } = this.#last ?? {};
            if (done && generation === this.#generation) end(done.error);
          },
        },
      );
    });
  }
}

const settle = () => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));

/** An error that comes up the tree names the host where it began. */
const withHost = (error: MtError, host: string): MtError =>
  error.message.includes(" at ")
    ? error
    : mtError(error.code, error.message.replace(/^Cannot reduce/, `Cannot reduce at ${host}`), error.hint);

/** Where reducers have to run: the tree as it stands, without branches that keep nothing. */
function treesOf(present: ReadonlyMap<string, HostStatus>, keeping: ReadonlySet<string>): ReduceTree[] {
  const trees = new Map<string, ReduceTree>();
  const tops: ReduceTree[] = [];
  const treeOf = (host: string): ReduceTree => {
    const known = trees.get(host);
    if (known) return known;
    const tree: ReduceTree = { host, own: keeping.has(host), children: [] };
    trees.set(host, tree);
    const parent = present.get(host)?.parent;
    if (parent !== undefined && present.has(parent)) treeOf(parent).children.push(tree);
    else tops.push(tree);
    return tree;
  };
  for (const host of keeping) treeOf(host);
  return tops;
}
