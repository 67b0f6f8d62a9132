/** How many guests are worked on at a time: --jobs, or a number for each core that guests may use here. */
import { availableParallelism } from "node:os";
import type { Host } from "../../../shared/records/index.ts";

export interface Jobs {
  /** A host record that may be this host's. */
  see(record: Host, host: string): void;
  count(): number;
}

export function jobsOf(args: { jobs?: number }, per_core: number): Jobs {
  let cores = availableParallelism();
  const see: Jobs["see"] = (record, host) => {
    if (record.id === host) cores = record.cores;
  };
  return { see, count: () => args.jobs ?? per_core * cores };
}
