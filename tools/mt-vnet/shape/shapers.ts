/** The shapers, a line a shaper. There is one, so nothing chooses yet. */
import type { Shaper } from "./shaper.ts";

const SHAPERS = {
  tc: async (): Promise<Shaper> => (await import("./tc/tc.ts")).tc(),
};

export const shaperHere = (): Promise<Shaper> => SHAPERS.tc();
