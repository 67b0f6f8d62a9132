/** What a node is told when it is started. */
import type { Identity, Pass } from "../link/authority.ts";
import type { Place } from "../link/wire.ts";

/** How the head reaches hosts, where links stay inside ssh. */
export interface SshLinks {
  command: string[];
  connect_s: number;
  /** What the script on each host is told, but for the host's name. */
  variables: Record<string, string | number>;
}

/** A node's configuration; a file that only its owner can read. */
export interface NodeConfig {
  self: Place;
  /** Absent where links stay inside ssh. */
  identity?: Identity;
  /** Not the head's. */
  pass?: Pass;
  /** The head's, where links stay inside ssh: how it reaches hosts. */
  links?: SshLinks;
  /** Nearest first, the head last; none: this is the head. */
  ancestors: Place[];
  /** How long a peer may send nothing before its link ends; 2 s where it is absent. */
  silence_ms?: number;
  /** The head's: how long a host whose parent died may take to join again; 2.5 s where it is absent. */
  rejoin_ms?: number;
  /** The head's: its socket for clients, and the hosts of the tree. */
  socket?: string;
  hosts?: Place[];
}
