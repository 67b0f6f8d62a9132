/**
 * From where a host fetches the binary: from the nearest host above it in the tree that has it. That host serves it
 * (hand-on.ts) while this run lasts, started over an ssh connection that ends with us.
 */
import { randomBytes } from "node:crypto";
import type { Result } from "neverthrow";
import { inform } from "../../../../shared/cli/stderr.ts";
import type { MtError } from "../../../../shared/errors.ts";
import { ancestorsOf, type TreeFile, type TreeHost } from "../../node/tree-file.ts";
import type { OpenStdin } from "./run.ts";

/** A URL from which a host may fetch the binary once. */
interface Offer {
  addr: string;
  port: number;
  path: string;
}

/** What Parents needs to bring the binary. */
interface Means {
  packed(): Promise<Buffer>;
  /** Runs the server on a host; `onStdin` gets its stdin. */
  serve(
    host: TreeHost,
    onLine: (line: string) => void,
    onStdin: (stdin: OpenStdin) => void,
  ): Promise<Result<string[], MtError>>;
}

/** A server on one host. */
interface Server {
  port: Promise<number | undefined>;
  stdin: OpenStdin | undefined;
  offered: Map<string, (there: boolean) => void>;
  over: Promise<unknown>;
}

export class Parents {
  readonly #tree: TreeFile;
  readonly #means: Means;
  readonly #places: Map<string, number>;
  /** For hosts that are being started: whether they get the binary. All other hosts of the tree have it. */
  readonly #coming = new Map<string, { settled: Promise<boolean>; settle: (has: boolean) => void }>();
  readonly #servers = new Map<string, Server>();
  #packed: Promise<Buffer> | undefined;
  #streamed = 0;
  #handedOn = 0;
  #notHandedOn = 0;

  constructor(tree: TreeFile, starting: readonly string[], means: Means) {
    this.#tree = tree;
    this.#means = means;
    this.#places = new Map(tree.hosts.map((h, k) => [h.id, k]));
    for (const host of starting) {
      let settle: (has: boolean) => void = () => {};
      const settled = new Promise<boolean>((resolve) => {
        settle = resolve;
      });
      this.#coming.set(host, { settled, settle });
    }
  }

  /** The binary, packed; that is done once. */
  packed(): Promise<Buffer> {
    this.#streamed++;
    return (this.#packed ??= this.#means.packed());
  }

  /** A host has the binary, or will not get it; what is said first counts. */
  has(host: string, has: boolean): void {
    this.#coming.get(host)?.settle(has);
  }

  count(handedOn: boolean): void {
    if (handedOn) this.#handedOn++;
    else this.#notHandedOn++;
  }

  /** Where this host may fetch the binary; undefined where no host above has it, so that it has to come from here. */
  async offer(host: string): Promise<Offer | undefined> {
    for (const k of ancestorsOf(this.#places.get(host)!, this.#tree.fanout)) {
      const parent = this.#tree.hosts[k]!;
      const coming = this.#coming.get(parent.id);
      if (coming && !(await coming.settled)) continue;
      const server = this.#server(parent);
      const port = await server.port;
      if (port === undefined) continue;
      const path = randomBytes(16).toString("hex");
      const there = await new Promise<boolean>((resolve) => {
        server.offered.set(path, resolve);
        server.stdin?.write(`${path}\n`);
        server.over.then(() => resolve(false));
      });
      if (there) return { addr: parent.addr, port, path };
    }
    return undefined;
  }

  #server(host: TreeHost): Server {
    const known = this.#servers.get(host.id);
    if (known) return known;
    let onPort: (port: number | undefined) => void = () => {};
    const server: Server = {
      port: new Promise((resolve) => {
        onPort = resolve;
      }),
      stdin: undefined,
      offered: new Map(),
      over: Promise.resolve(),
    };
    this.#servers.set(host.id, server);
    server.over = this.#means
      .serve(
        host,
        (line) => {
          const [word, value = ""] = line.split(" ");
          if (word === "port") onPort(Number(value));
          else if (word === "offered") server.offered.get(value)?.(true);
        },
        (stdin) => {
          server.stdin = stdin;
        },
      )
      .then(() => onPort(undefined));
    return server;
  }

  /** Ends the servers. */
  async end(): Promise<void> {
    for (const server of this.#servers.values()) server.stdin?.end();
    await Promise.all([...this.#servers.values()].map((s) => s.over));
  }

  /** Reports to people how many hosts got the binary, and from where. */
  tell(): void {
    if (this.#streamed + this.#handedOn === 0) return;
    const not = this.#notHandedOn > 0 ? `, ${this.#notHandedOn} could not fetch it there` : "";
    inform(`mt came to hosts: ${this.#streamed} from here, ${this.#handedOn} from their parents${not}`);
  }
}
