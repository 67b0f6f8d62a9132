/** The note for a graph in several parts: how many, how large, and which routers are not in the largest. */
import { partsOf } from "../../../shared/parts.ts";
import type { Router } from "../../../shared/records/index.ts";

const SIZES_SHOWN = 8;
const NAMES_SHOWN = 8;

/** Empty where all routers reach each other. */
export function partsNote(routers: readonly Router[]): string[] {
  const parts = partsOf(routers).map((part) => part.routers);
  if (parts.length < 2) return [];
  parts.sort((a, b) => b.length - a.length);
  const bySize = new Map<number, number>();
  for (const { length } of parts) bySize.set(length, (bySize.get(length) ?? 0) + 1);
  const sizes = [...bySize].map(([size, times]) => (times > 1 ? `${times} × ${size}` : `${size}`));
  const apart = parts.slice(1).flat();
  const names = apart.slice(0, NAMES_SHOWN).map((r) => routers[r]!.id);
  const more = apart.length - names.length;
  return [
    `the graph is in ${parts.length} parts with no link between them, of ${some(sizes)} routers; not with the largest: ${names.join(", ")}${more > 0 ? ` and ${more} more` : ""}`,
  ];
}

const some = (sizes: readonly string[]) =>
  sizes.length > SIZES_SHOWN ? `${sizes.slice(0, SIZES_SHOWN).join(", ")}, …` : sizes.join(", ");
