/** Where large packets may get lost: segments between hosts whose guests reach each other only by small pings. */
import type { Spanning } from "../verdict/census.ts";
import type { Tally } from "../verdict/tally.ts";

const NAMED_MAX = 3;

/**
 * Segments ordered by how many such pairs they may explain: those that span both hosts of a pair, else those that have
 * one of them.
 */
export function narrowSegments(
  pairs: ReturnType<Tally["narrow"]>,
  spanning: ReadonlyMap<string, Spanning>,
): string[] {
  const votes = new Map<string, number>();
  for (const { from, to } of pairs) {
    const ends = [from.guest.host, to.host].filter((h) => h !== undefined);
    const having = (n: number) =>
      [...spanning].filter(([, s]) => ends.filter((h) => s.hosts.includes(h)).length >= n);
    const both = having(2);
    for (const [id] of both.length > 0 ? both : having(1)) votes.set(id, (votes.get(id) ?? 0) + 1);
  }
  const ranked = [...votes].sort(([, a], [, b]) => b - a).map(([id]) => id);
  const named = ranked.slice(0, NAMED_MAX).map((id) => {
    const { hosts, mtu } = spanning.get(id)!;
    const size = mtu === undefined ? "" : ` with its MTU of ${mtu}`;
    return `segment ${id}${size} between ${hosts.slice(0, 2).join(" and ")}${hosts.length > 2 ? ", …" : ""}`;
  });
  return ranked.length > NAMED_MAX ? [...named, `${ranked.length - NAMED_MAX} more`] : named;
}
