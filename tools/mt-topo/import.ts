/**
 * mt-topo import: a file of one of the known formats becomes the beginning of a plan.
 * Reads GML or JSON lines from a file or stdin; writes a whole plan; 65 where the file is not right.
 */
import { basename, extname } from "node:path";
import { numberArg } from "../../shared/cli/parse.ts";
import type { Invocation } from "../../shared/cli/start.ts";
import { inform } from "../../shared/cli/stderr.ts";
import { orThrow } from "../../shared/errors.ts";
import { SCHEMA_VERSION } from "../../shared/records/index.ts";
import { LineWriter } from "../../shared/stream/writer.ts";
import { complete } from "./complete.ts";
import { decodeText, parseGml } from "./gml.ts";
import { graphOf } from "./graph.ts";
import { chunksOf, linesOf } from "./input.ts";
import { slug } from "./names.ts";
import { type Plan, readPlan, writePlan } from "./plan.ts";
import { planOf } from "./routed.ts";
import { idArg } from "./words.ts";

export async function importCommand({ args, signal }: Invocation): Promise<number> {
  const file = args.file as string;
  const id = orThrow(idArg(args));
  const seed = args.seed === undefined ? undefined : orThrow(numberArg(args, "seed", { max: 4294967295 }));
  const chunks: Buffer[] = [];
  for await (const chunk of chunksOf(file, signal)) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const fallback = file === "-" ? "topology" : slug(basename(file, extname(file))) || "topology";
  const format = args.format === "auto" ? formatOf(file, bytes) : args.format;
  let plan: Plan;
  if (format === "gml") {
    const graph = orThrow(parseGml(decodeText(bytes)).andThen(graphOf));
    for (const note of graph.notes) inform(note);
    plan = orThrow(planOf(graph, id ?? (slug(graph.label ?? "") || fallback), seed ?? 1));
  } else {
    plan = orThrow(await readPlan(linesOf(asStream(bytes)), false));
    const given = plan.experiment?.record;
    if (!given || id !== undefined || seed !== undefined) {
      const rest = given ?? { kind: "experiment", id: fallback, version: SCHEMA_VERSION, seed: 1 };
      plan.experiment = { record: { ...rest, id: id ?? rest.id, seed: seed ?? rest.seed } };
    }
    orThrow(complete(plan));
  }
  writePlan(plan, new LineWriter());
  return 0;
}

/** By the ending, then by the first character: JSON lines begin with a brace. */
function formatOf(file: string, bytes: Buffer): "gml" | "native" {
  const ending = extname(file).toLowerCase();
  if (ending === ".gml") return "gml";
  if (ending === ".jsonl" || ending === ".ndjson" || ending === ".plan") return "native";
  return /^[\s\uFEFF]*\{/.test(bytes.subarray(0, 4096).toString("latin1")) ? "native" : "gml";
}

async function* asStream(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
