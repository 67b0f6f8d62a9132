/** A plan as JSON lines, written by hand or by another tool: what it may leave out is filled in. */
import { SCHEMA_VERSION } from "../../../shared/records/index.ts";
import { linesFrom } from "../../../shared/stream/lines.ts";
import { complete } from "../plan/complete.ts";
import { readPlan } from "../plan/plan.ts";
import type { Format } from "./format.ts";
import { misnamed } from "./misnamed.ts";

export const native: Format = {
  title: "JSON lines",
  endings: [".jsonl", ".ndjson", ".plan"],
  begins: (start) => /^[\s\uFEFF]*[{[]/.test(start),
  async read({ bytes, text, id, seed, fallback }, note) {
    // UTF-8 as it came, so that a line that is none is told; anything else as what it was decoded to.
    const utf8 = bytes.includes(0) ? Buffer.from(text) : bytes;
    const plan = await readPlan(linesFrom(asStream(utf8)), false);
    if (plan.isErr()) return plan;
    const given = plan.value.experiment?.record;
    if (!given || id !== undefined || seed !== undefined) {
      const rest = given ?? { kind: "experiment", id: fallback, version: SCHEMA_VERSION, seed: 1 };
      plan.value.experiment = {
        ...plan.value.experiment,
        record: { ...rest, id: id ?? rest.id, seed: seed ?? rest.seed },
      };
    }
    for (const line of misnamed(plan.value)) note(line);
    return complete(plan.value).map(() => plan.value);
  },
  instead: (_text, guess) => (guess?.what === native.title ? undefined : guess),
};

async function* asStream(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
