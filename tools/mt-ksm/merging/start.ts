/** What settle and watch begin with: whether merging can and may be set here, and the lease on its settings. */
import { inform } from "../../../shared/cli/stderr.ts";
import { type MtError, mtError } from "../../../shared/errors.ts";
import { leaseHolder } from "../../../shared/host/names.ts";
import { whatIsMissing, whyNotOurs } from "./kernel.ts";
import { mergeSlowly, noteOff } from "./settings.ts";

export type Begun = { holder: string } | { error: MtError } | { off: string };

/** Takes this experiment's share in KSM. `off`: why nobody here may set it, which is no failure. */
export async function takeShare(host: string, experiment: string | undefined): Promise<Begun> {
  if (experiment === undefined)
    return { error: mtError("data", "Cannot set KSM: no experiment record came") };
  const missing = whatIsMissing(true);
  if (missing) return { error: missing };
  const holder = leaseHolder(host, experiment);
  const off = whyNotOurs();
  if (off !== undefined) {
    const first = await noteOff(holder);
    if (first.isErr()) return { error: first.error };
    if (first.value) inform(`memory is not merged: ${off}; guests take what they take without it`);
    return { off };
  }
  const taken = await mergeSlowly(holder);
  return taken.isErr() ? { error: taken.error } : { holder };
}
