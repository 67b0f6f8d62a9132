/** What a generator is: a rule by which `mt-topo gen` joins routers. It is listed in generators.ts. */
import type { GraphLink } from "../graph.ts";

export interface Generator {
  /** Links between routers 0 to n-1, each pair once; all of them are connected. */
  links(n: number): GraphLink[];
}
