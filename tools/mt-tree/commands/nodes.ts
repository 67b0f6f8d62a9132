/** mt-tree nodes: prints what a node set means, folded, expanded or counted. Only @all needs a tree. */
import type { Run } from "../../../shared/cli/invocation.ts";
import { EXIT, orThrow } from "../../../shared/errors.ts";
import { foldTerms } from "../../../shared/nodeset/fold.ts";
import { nodesNamed } from "../../../shared/nodeset/groups.ts";
import { readStdin } from "../../../shared/stream/stdin.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import type { spec } from "../spec.ts";

export const nodes: Run<typeof spec, "nodes"> = async ({ args, signal }) => {
  const { set } = args;
  const names = orThrow(
    nodesNamed(set === "-" ? (await readStdin(signal)).toString().replaceAll(/\s+/g, " ") : set),
  );
  const writer = new LineWriter();
  if (args.count) writer.line(String(names.size));
  else if (args.expand) for (const name of names) writer.line(name);
  else if (names.size > 0) writer.line(foldTerms(names).join(","));
  writer.flush();
  return EXIT.ok;
};
