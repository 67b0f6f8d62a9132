/**
 * Nodes of a tree in one process: the real protocol code over links in memory that have a delay. A node can be killed
 * (its links end), or cut off (what it sends and what is sent to it waits).
 */
import { err, ok } from "neverthrow";
import type { Place, Transport, Wire } from "../../tools/mt-tree/link/wire.ts";
import type { Launch } from "../../tools/mt-tree/node/command.ts";
import type { NodeConfig } from "../../tools/mt-tree/node/config.ts";
import { TreeNode } from "../../tools/mt-tree/node/node.ts";
import { ancestorsOf } from "../../tools/mt-tree/node/tree-file.ts";
import { TreeClient } from "../../tools/mt-tree/session/client.ts";

/** One end of a wire. */
class End implements Wire {
  peer!: End;
  open = true;
  readonly #net: MemoryNet;
  readonly #node: string;
  #data: ((chunk: Buffer) => void) | undefined;
  #close: ((why: string) => void) | undefined;
  #early: Buffer[] = [];

  constructor(net: MemoryNet, node: string) {
    this.#net = net;
    this.#node = node;
  }

  write(bytes: Uint8Array): void {
    if (!this.open) return;
    // A copy, as a socket makes one.
    const copy = Buffer.from(bytes);
    this.#net.carry(this.#node, this.peer.#node, () => this.peer.#came(copy));
  }

  #came(chunk: Buffer): void {
    if (!this.open) return;
    if (this.#data) this.#data(chunk);
    else this.#early.push(chunk);
  }

  listen(data: (chunk: Buffer) => void, close: (why: string) => void): void {
    this.#data = data;
    this.#close = close;
    for (const chunk of this.#early.splice(0)) data(chunk);
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.#net.carry(this.#node, this.peer.#node, () => this.peer.#ended());
  }

  #ended(): void {
    if (!this.open) return;
    this.open = false;
    this.#close?.("it closed the connection");
  }
}

export class MemoryNet {
  readonly #delay_ms: number;
  readonly #listeners = new Map<string, (wire: Wire, name: string) => void>();
  readonly #ends = new Map<string, Set<End>>();
  readonly #cut = new Set<string>();
  #waiting: { at: number; deliver: () => void }[] = [];
  #held: { from: string; to: string; deliver: () => void }[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** @param delay_ms of every wire, one way */
  constructor(delay_ms: number) {
    this.#delay_ms = delay_ms;
  }

  carry(from: string, to: string, deliver: () => void): void {
    if (this.#cut.has(from) || this.#cut.has(to)) {
      this.#held.push({ from, to, deliver });
      return;
    }
    this.#waiting.push({ at: performance.now() + this.#delay_ms, deliver });
    this.#schedule();
  }

  #schedule(): void {
    const first = this.#waiting[0];
    if (!first || this.#timer) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        const now = performance.now() + 0.2;
        let due = 0;
        while (due < this.#waiting.length && this.#waiting[due]!.at <= now) due++;
        for (const { deliver } of this.#waiting.splice(0, due)) deliver();
        this.#schedule();
      },
      Math.max(0, first.at - performance.now()),
    );
  }

  /** Nothing passes to or from this node, until `heal`. */
  cut(name: string): void {
    this.#cut.add(name);
  }

  heal(name: string): void {
    this.#cut.delete(name);
    const held = this.#held;
    this.#held = [];
    for (const { from, to, deliver } of held) this.carry(from, to, deliver);
  }

  /** Ends all wires of a node; it takes no more. */
  kill(name: string): void {
    this.#listeners.delete(name);
    for (const end of this.#ends.get(name) ?? []) end.close();
    this.#ends.delete(name);
  }

  wires(a: string, b: string): [End, End] {
    const ends: [End, End] = [new End(this, a), new End(this, b)];
    ends[0].peer = ends[1];
    ends[1].peer = ends[0];
    for (const [i, name] of [a, b].entries()) {
      const all = this.#ends.get(name);
      if (all) all.add(ends[i]!);
      else this.#ends.set(name, new Set([ends[i]!]));
    }
    return ends;
  }

  transport(name: string): Transport {
    return {
      listen: async (_self, accept) => void this.#listeners.set(name, accept),
      dial: (to, timeout_ms) =>
        new Promise((resolve) => {
          const late = setTimeout(() => resolve(err("no answer")), timeout_ms);
          this.carry(name, to.name, () => {
            const accept = this.#listeners.get(to.name);
            const ends = accept && this.wires(name, to.name);
            if (accept && ends) accept(ends[1], name);
            this.carry(to.name, name, () => {
              clearTimeout(late);
              resolve(ends ? ok(ends[0]) : err("nobody is there"));
            });
          });
        }),
    };
  }
}

export interface Tree {
  net: MemoryNet;
  names: string[];
  client: TreeClient;
  /** Ends an agent, commands and all. */
  kill(name: string): void;
  /** Ends all of it. */
  end(): void;
}

/**
 * A tree of `n` agents `n0`…, all joined.
 * @param launch runs commands on a host
 * @param timing of all nodes
 */
export async function memoryTree(
  n: number,
  fanout: number,
  delay_ms: number,
  launch: (host: string) => Launch,
  timing: Pick<NodeConfig, "silence_ms" | "rejoin_ms"> = {},
): Promise<Tree> {
  const net = new MemoryNet(delay_ms);
  const place = (name: string): Place => ({ name, addr: "", port: 0 });
  const names = Array.from({ length: n }, (_, i) => `n${i}`);
  const identity = { ca: "", cert: "", key: "" };
  const nodes = new Map<string, TreeNode>();
  const start = (name: string, config: Partial<NodeConfig>) => {
    const node = new TreeNode(
      { self: place(name), identity, ancestors: [], ...timing, ...config },
      net.transport(name),
      launch(name),
    );
    nodes.set(name, node);
    void node.run();
    return node;
  };
  const head = start("head", { hosts: names.map(place) });
  for (const [k, name] of names.entries())
    start(name, { ancestors: [...ancestorsOf(k, fanout).map((a) => place(names[a]!)), place("head")] });
  const [ours, theirs] = net.wires("client", "head");
  head.client(theirs);
  const client = new TreeClient(ours, timing.silence_ms);
  for (;;) {
    const listed = await client.list();
    if (listed.isErr()) throw new Error(listed.error.message);
    if (listed.value.every((h) => h.present)) break;
    await new Promise((r) => setTimeout(r, 5));
  }
  const kill = (name: string) => {
    net.kill(name);
    nodes.get(name)?.stop();
  };
  return {
    net,
    names,
    client,
    kill,
    end() {
      for (const name of [...names, "head", "client"]) kill(name);
    },
  };
}
