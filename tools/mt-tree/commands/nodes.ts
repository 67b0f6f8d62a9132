/** mt-tree nodes: a node set as it is understood, folded, expanded or counted. No tree is asked, but for @all. */
import type { Invocation } from "../../../shared/cli/invocation.ts";
import { EXIT, fail, orThrow } from "../../../shared/errors.ts";
import { foldTerms } from "../../../shared/nodeset/fold.ts";
import { nodesNamed } from "../../../shared/nodeset/groups.ts";
import { readStdin } from "../../../shared/stream/stdin.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";

export async function nodes({ args, signal }: Invocation): Promise<number> {
  const forms = (["fold", "expand", "count"] as const).filter((form) => args[form] === true);
  if (forms.length > 1)
    orThrow(fail("usage", `Cannot use --${forms[0]} with --${forms[1]}: one of them says how to print`));
  const set = String(args.set);
  const names = orThrow(
    nodesNamed(set === "-" ? (await readStdin(signal)).toString().replaceAll(/\s+/g, " ") : set),
  );
  const writer = new LineWriter();
  if (forms[0] === "count") writer.line(String(names.size));
  else if (forms[0] === "expand") for (const name of names) writer.line(name);
  else if (names.size > 0) writer.line(foldTerms(names).join(","));
  writer.flush();
  return EXIT.ok;
}
