/** What mt-push runs on each host, through mt-tree exec: `has` says which files are missing, `receive` takes one. */
import type { Run } from "../../../shared/cli/invocation.ts";
import { EXIT, orThrow } from "../../../shared/errors.ts";
import { storeTake, storeVerify } from "../../../shared/host/store.ts";
import { stdinChunks } from "../../../shared/stream/stdin.ts";
import { writeAll } from "../../../shared/stream/writer.ts";
import type { spec } from "../spec.ts";

/** Prints the digests of which this host's store has no undamaged file, one a line. */
export const has: Run<typeof spec, "has"> = async ({ rest }) => {
  const lacking: string[] = [];
  for (const digest of rest) if (!(await storeVerify(digest))) lacking.push(digest);
  if (lacking.length > 0) writeAll(1, Buffer.from(`${lacking.join("\n")}\n`));
  return EXIT.ok;
};

export const receive: Run<typeof spec, "receive"> = async ({ args, signal }) => {
  orThrow(await storeTake(stdinChunks(signal), args.digest));
  return EXIT.ok;
};
