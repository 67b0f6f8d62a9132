/** Every router with the next, and the last with the first. */
import type { Generator } from "./generator.ts";

export const ring: Generator = {
  links(n) {
    const links = Array.from({ length: n - 1 }, (_, i) => ({ a: i, b: i + 1 }));
    // Two routers have one link, not two.
    if (n > 2) links.push({ a: n - 1, b: 0 });
    return links;
  },
};
