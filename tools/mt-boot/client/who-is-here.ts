/** The hint of an error about a guest that is not on this host. */
import { didYouMean } from "../../../shared/cli/did-you-mean.ts";
import { fold, splitName } from "../../../shared/nodeset/ranges.ts";

const SHOWN_MAX = 200;

/** A guest with a similar name, or all that are here. */
export function whoIsHere(id: string, known: Iterable<string>): string {
  const names = [...known];
  if (names.length === 0) return "mt-boot up";
  const all = fold(names).join(",");
  const near = didYouMean(id, names);
  const prefix = splitName(id)?.family.prefix;
  const same_family = prefix !== undefined && names.some((name) => splitName(name)?.family.prefix === prefix);
  if (near && !same_family) return near;
  return `here: ${all.length > SHOWN_MAX ? `${all.slice(0, SHOWN_MAX)}…` : all}`;
}
