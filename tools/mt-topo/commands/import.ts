/**
 * mt-topo import: a file of one of the known formats (formats/formats.ts) becomes the beginning of a plan.
 * Reads a file or stdin, writes a whole plan; exits 65 where the file is not right.
 */
import { basename, extname } from "node:path";
import type { Run } from "../../../shared/cli/invocation.ts";
import { inform } from "../../../shared/cli/stderr.ts";
import { MtFailure, mtError, orThrow } from "../../../shared/errors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import type { Format } from "../formats/format.ts";
import { fittingFormat, formatNamed, formatOf } from "../formats/formats.ts";
import { chunksOf } from "../formats/input.ts";
import {
  binaryIn,
  decodeText,
  FILE_BYTES_MAX,
  type Other,
  otherIn,
  tooLarge,
  unpacked,
} from "../formats/other.ts";
import { slug } from "../plan/names.ts";
import { writePlan } from "../plan/plan.ts";
import type { spec } from "../spec.ts";
import { partsNote } from "./parts-note.ts";

export const importFile: Run<typeof spec, "import"> = async ({ args, signal }) => {
  const { file, id, seed } = args;
  const source = file === "-" ? "stdin" : file;
  const bytes = orThrow(unpacked(await wholeOf(file, source, signal), source));
  const other = binaryIn(bytes);
  if (other) throw isInstead(source, other);
  const text = decodeText(bytes);
  if (text.trim() === "") throw isInstead(source, otherIn("")!);
  const name = basename(file).replace(/\.gz$/i, "");
  const fallback = file === "-" ? "topology" : slug(basename(name, extname(name))) || "topology";
  const format = await (args.format === "auto" ? formatOf(name, text) : formatNamed(args.format));
  if (format.bytes_max !== undefined && bytes.length > format.bytes_max)
    throw isTooLarge(source, format.bytes_max);
  const plan = await format.read({ bytes, text, id, seed, fallback }, inform);
  if (plan.isErr()) {
    const what = await otherThan(format, text);
    throw what ? isInstead(source, what) : new MtFailure(plan.error);
  }
  for (const note of partsNote(plan.value.routers.map(({ record }) => record))) inform(note);
  writePlan(plan.value, new LineWriter());
  return 0;
};

/** What a text seems to be that could not be read as this format. */
async function otherThan(format: Format, text: string): Promise<Other | undefined> {
  const known = format.instead(text, otherIn(text));
  if (known) return known;
  const fitting = await fittingFormat(text, format);
  return fitting && { what: fitting.title, hint: `--format ${fitting.name}` };
}

/** Reads a whole file; stops early where it is no text, or too large, as a device that never ends is. */
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
