/**
 * A routing engine: the program that runs routers, one daemon a router. What a daemon keeps (configuration, log,
 * control socket) is in the router's directory, which is how it is known: `dir` below is always that directory.
 */
import type { Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import type { Router } from "../../../shared/records/index.ts";

export interface Engine {
  /** As in messages. */
  title: string;
  /** Programs that it needs to start routers and to change them. */
  programs: readonly string[];
  /**
   * A router's configuration.
   * @param delays_ms one-way delay by segment, of the segments that were seen
   */
  config(experiment: string, router: Router, delays_ms: ReadonlyMap<string, number | undefined>): string;
  /** Directory → pid of the daemons of all routers whose directories are in `parent`: one pass over /proc. */
  running(parent: string): Map<string, number>;
  /** Whether process `pid` is this router's daemon and lives. */
  isRunning(dir: string, pid: number): boolean;
  /** The configuration that the daemon has; undefined where none is there. */
  current(dir: string): string | undefined;
  /** Starts the daemon of a router whose directory is there, in a namespace, and waits until it has read its configuration; gives its pid. */
  start(dir: string, netns: string, config: string): Promise<Result<number, MtError>>;
  /** Gives a running daemon another configuration. */
  reload(dir: string, config: string): Promise<Result<void, MtError>>;
  /** Ends the daemon, where one runs, and removes the directory. */
  end(dir: string, pid: number | undefined): Promise<Result<void, MtError>>;
  /** Its neighbours by interface (`eth0`), in OSPF's states: `Full`, `ExStart`, `Init`, … */
  neighbours(dir: string): Promise<Result<Map<string, string>, MtError>>;
  /** The file with all that the daemon said. */
  log(dir: string): string;
  /** Why the daemon ended, from its log; undefined where that gives no reason. */
  lastError(dir: string): string | undefined;
}
