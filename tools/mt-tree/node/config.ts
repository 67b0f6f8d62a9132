/** The configuration that a node is started with. */
import type { Identity, Pass } from "../link/authority.ts";
import type { Place } from "../link/wire.ts";

/** How the head reaches hosts, where links stay inside ssh. */
export interface SshLinks {
  command: string[];
  connect_s: number;
  /** Variables of the script on each host, besides the host's name. */
  variables: Record<string, string | number>;
}

/** A file that only its owner can read, for it has the node's key. */
export interface NodeConfig {
  self: Place;
  /** Absent where links stay inside ssh. */
  identity?: Identity;
  /** The head has none. */
  pass?: Pass;
  /** The head's, where links stay inside ssh: how it connects to hosts. */
  links?: SshLinks;
  /** Nearest first, the head last. The head has none. */
  ancestors: Place[];
  /** How long a peer may send nothing before its link ends; 2 s where it is absent. */
  silence_ms?: number;
  /** The head's: how long a host whose parent died may take to join again; 2.5 s where it is absent. */
  rejoin_ms?: number;
  /** The head's: its socket for clients. */
  socket?: string;
  /** The head's: the hosts of the tree. */
  hosts?: Place[];
}
