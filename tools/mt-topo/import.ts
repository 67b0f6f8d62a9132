/**
 * mt-topo import: a file of one of the known formats becomes the beginning of a plan.
 * Reads GML or JSON lines from a file or stdin; writes a whole plan; 65 where the file is not right.
 */
import { basename, extname } from "node:path";
import type { Result } from "neverthrow";
import { numberArg } from "../../shared/cli/parse.ts";
import type { Invocation } from "../../shared/cli/start.ts";
import { inform } from "../../shared/cli/stderr.ts";
import { type MtError, MtFailure, mtError, orThrow } from "../../shared/errors.ts";
import { SCHEMA_VERSION } from "../../shared/records/index.ts";
import { LineWriter } from "../../shared/stream/writer.ts";
import { complete } from "./complete.ts";
import { parseGml } from "./gml.ts";
import { graphOf } from "./graph.ts";
import { chunksOf, linesOf } from "./input.ts";
import { misnamed } from "./misnamed.ts";
import { slug } from "./names.ts";
import { partsNote } from "./parts-note.ts";
import { type Plan, readPlan, writePlan } from "./plan.ts";
import { planOf } from "./routed.ts";
import {
  binaryIn,
  decodeText,
  FILE_BYTES_MAX,
  GML_BYTES_MAX,
  type Other,
  otherIn,
  tooLarge,
  unpacked,
} from "./sniff.ts";
import { idArg } from "./words.ts";

export async function importCommand({ args, signal }: Invocation): Promise<number> {
  const file = args.file as string;
  const id = orThrow(idArg(args));
  const seed = args.seed === undefined ? undefined : orThrow(numberArg(args, "seed", { max: 4294967295 }));
  const source = file === "-" ? "stdin" : file;
  const bytes = orThrow(unpacked(await wholeOf(file, source, signal), source));
  const other = binaryIn(bytes);
  if (other) throw isInstead(source, other);
  const text = decodeText(bytes);
  if (text.trim() === "") throw isInstead(source, otherIn("")!);
  const name = basename(file).replace(/\.gz$/i, "");
  const fallback = file === "-" ? "topology" : slug(basename(name, extname(name))) || "topology";
  const format = args.format === "auto" ? formatOf(name, text) : args.format;
  if (format === "gml" && bytes.length > GML_BYTES_MAX) throw isTooLarge(source, GML_BYTES_MAX);
  const plan =
    format === "gml"
      ? fromGml(text).andThen((graph) => {
          for (const note of graph.notes) inform(note);
          return planOf(graph, id ?? (slug(graph.label ?? "") || fallback), seed ?? 1);
        })
      : await fromLines(bytes, text, { id, seed, fallback });
  if (plan.isErr()) {
    const what = otherThan(format === "gml" ? "gml" : "native", text);
    throw what ? isInstead(source, what) : new MtFailure(plan.error);
  }
  for (const note of partsNote(plan.value.routers.map(({ record }) => record))) inform(note);
  writePlan(plan.value, new LineWriter());
  return 0;
}

/** All of a file; a device that never ends, and what is no text, is not read to its end. */
async function wholeOf(file: string, source: string, signal: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of chunksOf(file, signal)) {
    const other = size === 0 ? binaryIn(chunk) : undefined;
    if (other) throw isInstead(source, other);
    chunks.push(chunk);
    size += chunk.length;
    if (size > FILE_BYTES_MAX) throw isTooLarge(source, FILE_BYTES_MAX);
  }
  return Buffer.concat(chunks);
}

const isTooLarge = (source: string, most: number) =>
  new MtFailure(mtError("data", `Cannot read ${source}: ${tooLarge(most)}`, "import a part of it"));
const isInstead = (source: string, { what, hint }: Other) =>
  new MtFailure(mtError("data", `Cannot import ${source}: it is ${what}`, hint));

const FORMATS = "GML, or a plan as JSON lines: --format native";

/** What the text is instead of what it was read as. */
function otherThan(format: "gml" | "native", text: string): Other | undefined {
  const other = otherIn(text);
  if (format === "gml")
    return (
      other ??
      (/\bgraph\s*\[/i.test(text) ? undefined : { what: "no GML: it has no graph [ … ]", hint: FORMATS })
    );
  if (other?.what === "JSON lines") return undefined;
  return other ?? (fromGml(text).isOk() ? { what: "GML", hint: "--format gml" } : undefined);
}

const fromGml = (text: string) => parseGml(text).andThen(graphOf);

async function fromLines(
  bytes: Buffer,
  text: string,
  { id, seed, fallback }: { id?: string; seed?: number; fallback: string },
): Promise<Result<Plan, MtError>> {
  // UTF-8 as it came, so that a line that is none is told; anything else as what it was decoded to.
  const utf8 = bytes.includes(0) ? Buffer.from(text) : bytes;
  const plan = await readPlan(linesOf(asStream(utf8)), false);
  if (plan.isErr()) return plan;
  const given = plan.value.experiment?.record;
  if (!given || id !== undefined || seed !== undefined) {
    const rest = given ?? { kind: "experiment", id: fallback, version: SCHEMA_VERSION, seed: 1 };
    plan.value.experiment = {
      ...plan.value.experiment,
      record: { ...rest, id: id ?? rest.id, seed: seed ?? rest.seed },
    };
  }
  for (const note of misnamed(plan.value)) inform(note);
  return complete(plan.value).map(() => plan.value);
}

/** By the ending, then by the first character: JSON lines begin with a brace. */
function formatOf(name: string, text: string): "gml" | "native" {
  const ending = extname(name).toLowerCase();
  if (ending === ".gml") return "gml";
  if (ending === ".jsonl" || ending === ".ndjson" || ending === ".plan") return "native";
  return /^[\s\uFEFF]*[{[]/.test(text.slice(0, 4096)) ? "native" : "gml";
}

async function* asStream(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
