/** A way to reach hosts (`--via`): what each does its own way about addresses, agents and what is left behind. */
import type { Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import type { NodeConfig, SshLinks } from "../node/config.ts";
import type { TreeFile, TreeHost } from "../node/tree-file.ts";

/** One host's agent, as it is to be started. */
export interface PlannedAgent {
  host: TreeHost;
  config: NodeConfig;
}

/** What came of starting agents. */
export interface StartOutcome {
  /** Where it failed, and why. */
  failed: Map<string, MtError>;
  /** Where one of this tree runs already: it may be about to join, or never. */
  running: Set<string>;
}

/** What may be asked of a way, as the flags of `up` and `down` say. */
export interface WayOptions {
  /** How ssh is called, in words. */
  ssh?: string;
  /** The head's address for hosts, where they cannot tell. */
  head?: string;
  timeout_s?: number;
  no_port?: boolean;
  /** MTUs of hosts that are made, in words. */
  mtu?: readonly string[];
  upgrade?: boolean;
  /** Say on stderr what was done. */
  progress?: boolean;
  /** Take away what was brought to hosts, too. */
  purge?: boolean;
}

export interface Way {
  /** It knows its hosts: `names` may be empty, for all of them. */
  knowsHosts?: boolean;
  /**
   * The hosts by name, with their addresses, and the head's: those of an earlier `up` first, in their places.
   * A host that cannot be found stands in `failed` and in no tree. `listen`: where the head listens, if not there.
   */
  hosts(
    names: string[],
    earlier: TreeFile | undefined,
  ): Promise<
    Result<{ hosts: TreeHost[]; head: string; listen?: string; failed?: Map<string, MtError> }, MtError>
  >;
  /** Where trees share a machine: keeps others from making hosts between `may` and the end of `make`. */
  lock?(): Promise<Result<() => void, MtError>>;
  /** Whether the tree can be made here and takes nothing from another: asked before a tree file names it. */
  may(tree: TreeFile, earlier: TreeFile | undefined): Promise<Result<void, MtError>>;
  /** Makes what is missing of the hosts themselves. */
  make(tree: TreeFile): Promise<Result<void, MtError>>;
  /** The namespace in which the head runs; undefined: this one. */
  headNamespace: string | undefined;
  /** How the head reaches hosts itself; undefined: they reach it. */
  links?(tree: TreeFile): SshLinks | undefined;
  /** Puts what there is of these hosts in order, as their network: their agents are missing. */
  mend?(tree: TreeFile, hosts: TreeHost[]): Promise<Result<void, MtError>>;
  /** Hosts that are there though no file of the tree tells of them: those that an earlier tree of this MT_RUN made. */
  remains?(): Promise<Result<TreeHost[], MtError>>;
  /** Starts agents that are missing; `replace`: one that runs is ended before, and what it runs with it. */
  start(tree: TreeFile, agents: PlannedAgent[], signal: AbortSignal, replace: boolean): Promise<StartOutcome>;
  /** Whether an agent that runs can do nothing where it is, whatever the head still believes. */
  stuck?(host: string): boolean;
  /** Whether an agent that was started has ended again. */
  ended?(host: string): boolean;
  /** What the agents of these hosts said last. */
  lastLogLines(tree: TreeFile, hosts: string[]): Promise<Map<string, string>>;
  /** Ends agents while the tree still stands: what is then left is `remove`'s. */
  leave?(tree: TreeFile): Promise<void>;
  /** Ends what runs on the hosts and takes away what was made there, also after a crash; `lost`: some could not be reached. */
  remove(tree: TreeFile): Promise<Result<void, MtError>>;
  /** Where to read what the agent of this host said last. */
  logOf(host: string): string;
}
