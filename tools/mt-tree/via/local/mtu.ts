/** `--mtu` of `mt-tree up --via local`: the MTU of hosts' links to the cluster's network, for all or for a node set. */
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../../shared/errors.ts";
import { namedHosts } from "../../../../shared/nodeset/groups.ts";

/** That of most real networks. */
export const UNDERLAY_MTU = 1500;
/** With less a tunnel has no room for the 576 bytes that every host must accept. A veth takes up to 65,535. */
const MTU_MIN = 626;
const MTU_MAX = 65_535;

/**
 * The MTUs that --mtu asks for, by host: `9000` is for all of `hosts`, `kn[1-2]=9000` for those. A later value wins over
 * an earlier one, and a node set over what is for all.
 */
export function mtusOf(
  values: readonly string[],
  hosts: readonly string[],
): Result<Map<string, number>, MtError> {
  const all = new Map<string, number>();
  const some = new Map<string, number>();
  for (const value of values) {
    const [, set, number] = /^(?:(.+)=)?(\d{1,6})$/.exec(value) ?? [];
    const mtu = Number(number);
    if (number === undefined || mtu < MTU_MIN || mtu > MTU_MAX)
      return fail(
        "usage",
        `Cannot use --mtu ${JSON.stringify(value.slice(0, 80))}: expected ${MTU_MIN} to ${MTU_MAX}, for all hosts or for some`,
        "--mtu 1500, or --mtu 'kn[1-2]=9000'",
      );
    if (set === undefined) {
      for (const host of hosts) all.set(host, mtu);
      continue;
    }
    const named = namedHosts(set);
    if (named.isErr()) return err(named.error);
    for (const host of named.value) {
      if (!hosts.includes(host))
        return fail(
          "usage",
          `Cannot use --mtu ${JSON.stringify(value.slice(0, 80))}: ${host} is no host of this tree`,
        );
      some.set(host, mtu);
    }
  }
  return ok(new Map([...all, ...some]));
}
