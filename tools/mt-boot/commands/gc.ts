/** `mt-boot gc`: removes the templates that no guest on this machine is forked from. */
import { hostOf } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { EXIT } from "../../../shared/errors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { removeUnused } from "../persist/template.ts";
import type { spec } from "../spec.ts";

export const gc: Run<typeof spec, "gc"> = async (invocation) => {
  const { removed, used, freed_mib } = await removeUnused();
  const writer = new LineWriter();
  writer.line(
    JSON.stringify({
      kind: "sample",
      id: "templates",
      host: hostOf(invocation),
      time: new Date().toISOString(),
      removed: removed.length,
      in_use: used.length,
      freed_mib,
    }),
  );
  writer.flush();
  return EXIT.ok;
};
