/** The fabrics, a line a fabric. There is one, so nothing chooses yet. */
import type { Fabric } from "./fabric.ts";

const FABRICS = {
  bridge: async (): Promise<Fabric> => (await import("./bridge/bridge.ts")).bridge,
};

export const fabricHere = (): Promise<Fabric> => FABRICS.bridge();
