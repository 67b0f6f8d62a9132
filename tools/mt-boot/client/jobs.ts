/** How many guests are worked on at a time: --jobs, or so many for each core that guests may use here. */
import { availableParallelism } from "node:os";
import { ok, type Result } from "neverthrow";
import { numberArg, type Parsed } from "../../../shared/cli/parse.ts";
import type { MtError } from "../../../shared/errors.ts";
import type { Host } from "../../../shared/records/index.ts";

const JOBS_MAX = 4096;

export interface Jobs {
  /** A host record that may be this host's. */
  see(record: Host, host: string): void;
  count(): number;
}

export function jobsOf(args: Parsed["args"], per_core: number): Result<Jobs, MtError> {
  let cores = availableParallelism();
  const see: Jobs["see"] = (record, host) => {
    if (record.id === host) cores = record.cores;
  };
  if (args.jobs === undefined || args.jobs === "") return ok({ see, count: () => per_core * cores });
  return numberArg(args, "jobs", { min: 1, max: JOBS_MAX }).map((given) => ({ see, count: () => given }));
}
