/** What settle and watch begin with: they check that KSM can be set here, and take a lease on its settings. */
import { inform } from "../../../shared/cli/stderr.ts";
import { type MtError, mtError } from "../../../shared/errors.ts";
import { leaseHolder } from "../../../shared/host/names.ts";
import { whatIsMissing, whyNotSettable } from "./kernel.ts";
import { mergeSlowly, noteOff } from "./settings.ts";

export type Begun = { holder: string } | { error: MtError } | { off: string };

/** Takes a lease for this experiment. `off`: why KSM cannot be set here; guests run without it, so that is no error. */
export async function takeShare(host: string, experiment: string | undefined): Promise<Begun> {
  if (experiment === undefined)
    return { error: mtError("data", "Cannot set KSM: no experiment record came") };
  const missing = whatIsMissing(true);
  if (missing) return { error: missing };
  const holder = leaseHolder(host, experiment);
  const off = whyNotSettable();
  if (off !== undefined) {
    const first = await noteOff(holder);
    if (first.isErr()) return { error: first.error };
    if (first.value) inform(`memory is not merged: ${off}; guests need their full memory`);
    return { off };
  }
  const taken = await mergeSlowly(holder);
  return taken.isErr() ? { error: taken.error } : { holder };
}
