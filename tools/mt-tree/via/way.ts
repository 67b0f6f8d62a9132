/** A way to reach hosts (`--via`): how they are found, how agents are started and ended there, what is cleaned up. */
import type { Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import type { NodeConfig, SshLinks } from "../node/config.ts";
import type { TreeFile, TreeHost } from "../node/tree-file.ts";

/** An agent that is to be started on a host. */
export interface PlannedAgent {
  host: TreeHost;
  config: NodeConfig;
}

/** What became of agents that were to be started. */
export interface StartOutcome {
  /** Hosts where it failed, and why. */
  failed: Map<string, MtError>;
  /** Hosts where an agent of this tree ran already: it may be about to join, or stuck. */
  running: Set<string>;
}

/** Flags of `up` and `down` that are for some way. */
export interface WayOptions {
  /** How ssh is called: program and options, separated by blanks. */
  ssh?: string;
  /** The address at which hosts reach the head. */
  head?: string;
  timeout_s?: number;
  no_port?: boolean;
  /** The values of --mtu. */
  mtu?: readonly string[];
  upgrade?: boolean;
  /** Report on stderr what was done. */
  progress?: boolean;
  /** Also remove binaries that were brought to hosts. */
  purge?: boolean;
}

export interface Way {
  /** Whether it knows which hosts there are: `names` may then be empty, for all of them. */
  knowsHosts?: boolean;
  /**
   * The hosts by name with their addresses, and the head's address. Those of an earlier `up` come first, in the same
   * order. A host that cannot be found is in `failed`, not in `hosts`. `listen`: where the head listens, if not at `head`.
   */
  hosts(
    names: string[],
    earlier: TreeFile | undefined,
  ): Promise<
    Result<{ hosts: TreeHost[]; head: string; listen?: string; failed?: Map<string, MtError> }, MtError>
  >;
  /** Where trees share a machine: keeps others from making hosts from before `may` until after `make`. */
  lock?(): Promise<Result<() => void, MtError>>;
  /** Whether the tree can be made here and takes nothing from another tree; called before the tree's file is written. */
  may(tree: TreeFile, earlier: TreeFile | undefined): Promise<Result<void, MtError>>;
  /** Makes hosts that are missing, where the way makes hosts. */
  make(tree: TreeFile): Promise<Result<void, MtError>>;
  /** The network namespace in which the head runs; undefined: this one. */
  headNamespace: string | undefined;
  /** How the head connects to hosts; undefined: they connect to it. */
  links?(tree: TreeFile): SshLinks | undefined;
  /** Repairs hosts whose agents are missing, as their network. */
  mend?(tree: TreeFile, hosts: TreeHost[]): Promise<Result<void, MtError>>;
  /** Hosts that an earlier tree of this MT_RUN made and that are still there, found without the tree's file. */
  remains?(): Promise<Result<TreeHost[], MtError>>;
  /** Starts agents that are missing; `replace`: an agent that runs is ended first, with its commands. */
  start(tree: TreeFile, agents: PlannedAgent[], signal: AbortSignal, replace: boolean): Promise<StartOutcome>;
  /** Whether a host's agent runs and cannot work; the head may not have noticed yet. */
  stuck?(host: string): boolean;
  /** Whether an agent that was started has ended again. */
  ended?(host: string): boolean;
  /** The last log line of the agents of these hosts. */
  lastLogLines(tree: TreeFile, hosts: string[]): Promise<Map<string, string>>;
  /** Ends agents through the tree, while it is still up; `remove` does the rest. */
  leave?(tree: TreeFile): Promise<void>;
  /** Ends what runs on the hosts and removes what was made there, also after a crash. Code `lost`: some could not be reached. */
  remove(tree: TreeFile): Promise<Result<void, MtError>>;
  /** Where the log of this host's agent is, for people. */
  logOf(host: string): string;
}
