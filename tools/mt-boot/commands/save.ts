/** `mt-boot save`: saves running guests with their memory into a directory; an `exit` record each. They go on running. */
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { resolve } from "node:path";
import type { Run } from "../../../shared/cli/invocation.ts";
import { startProgress } from "../../../shared/cli/progress.ts";
import { MtFailure, mtError, toMtError } from "../../../shared/errors.ts";
import { jobsOf } from "../client/jobs.ts";
import { askExits, overGuests } from "../client/targets.ts";
import type { spec } from "../spec.ts";

export const save: Run<typeof spec, "save"> = async (invocation) => {
  const { args } = invocation;
  const jobs = jobsOf(args, 1);
  const dir = resolve(args.dir);
  try {
    // Guests of two saves must not be mixed.
    if (existsSync(dir) && readdirSync(dir).length > 0)
      throw new MtFailure(
        mtError("usage", `Cannot save into ${dir}: it is not empty`, "name a new directory"),
      );
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (thrown) {
    throw new MtFailure(toMtError(thrown));
  }
  const progress = startProgress("guests", args.progress);
  const code = await overGuests(invocation, {
    set: args.set ?? "",
    changes: true,
    example: "mt-boot save DIR 'g[0-3]'",
    jobs,
    work: (group) => askExits(group, "save it", "save", { dir, jobs: jobs.count() }, progress),
  });
  progress.stop();
  return code;
};
