/** The ways to reach hosts (`--via`): what each does its own way about addresses, agents and what is left behind. */
import type { Result } from "neverthrow";
import type { MtError } from "../../shared/errors.ts";
import type { NodeConfig } from "./node.ts";
import type { TreeFile, TreeHost } from "./tree-file.ts";

export const WAYS = ["local", "slurm"] as const;
export type WayName = (typeof WAYS)[number];

/** One host's agent, as it is to be started. */
export interface AgentStart {
  host: TreeHost;
  config: NodeConfig;
}

/** What may be asked of a way, as the flags of `up` and `down` say. */
export interface WayOptions {
  timeout_s?: number;
}

export interface Way {
  /** It knows its hosts: `names` may be empty, for all of them. */
  knowsHosts?: boolean;
  /**
   * The hosts by name, with their addresses, and the head's: those of an earlier `up` first, in their places.
   * A host that cannot be found stands in `failed` and in no tree.
   */
  hosts(
    names: string[],
    earlier: TreeFile | undefined,
  ): Promise<Result<{ hosts: TreeHost[]; head: string; failed?: Map<string, MtError> }, MtError>>;
  /** Whether the tree can be made here and takes nothing from another: asked before a tree file names it. */
  may(tree: TreeFile, earlier: TreeFile | undefined): Promise<Result<void, MtError>>;
  /** Makes what is missing of the hosts themselves. */
  make(tree: TreeFile): Promise<Result<void, MtError>>;
  /** The namespace in which the head runs; undefined: this one. */
  headNamespace: string | undefined;
  /** Starts agents that are missing; gives the hosts where that failed, and why. */
  start(tree: TreeFile, agents: AgentStart[], signal: AbortSignal): Promise<Map<string, MtError>>;
  /** Ends what runs on the hosts and takes away what was made there, also after a crash. */
  remove(tree: TreeFile): Promise<Result<void, MtError>>;
  /** Where to read what the agent of this host said last. */
  logOf(host: string): string;
}

export async function wayOf(name: WayName, options: WayOptions): Promise<Way> {
  switch (name) {
    case "local":
      return (await import("./via-local.ts")).local;
    case "slurm":
      return (await import("./via-slurm.ts")).viaSlurm(options);
  }
}
