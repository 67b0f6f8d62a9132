/**
 * Every kind of record: its schema, what makes it travel, and the check at the border.
 * From here come the TypeScript types, the validation, the shipped JSON Schema and mt-records(5).
 */
import type { TSchema } from "@sinclair/typebox";
import { TypeCompiler, ValueErrorType } from "@sinclair/typebox/compiler";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../errors.ts";
import { SCHEMA_VERSION } from "../version.ts";
import { type End, endExamples, endSchema } from "./end.ts";
import { type Experiment, experimentExamples, experimentSchema } from "./experiment.ts";
import {
  CIDR_PATTERN,
  HOST_OR_RANGE_PATTERN,
  HOST_PATTERN,
  ID_PATTERN,
  IP_PATTERN,
  RANGE_PATTERN,
} from "./fields.ts";
import { type Guest, guestExamples, guestSchema } from "./guest.ts";
import { type Host, hostExamples, hostSchema } from "./host.ts";
import { type Image, imageExamples, imageSchema } from "./image.ts";
import {
  type Copy,
  copySchema,
  type ErrorRecord,
  type Exit,
  errorSchema,
  exitSchema,
  reportExamples,
  type Sample,
  type Switch,
  sampleSchema,
  switchSchema,
  type Verdict,
  verdictSchema,
} from "./reports.ts";
import { type Router, routerExamples, routerSchema } from "./router.ts";
import { type Segment, segmentExamples, segmentSchema } from "./segment.ts";

export type {
  Copy,
  End,
  ErrorRecord,
  Exit,
  Experiment,
  Guest,
  Host,
  Image,
  Router,
  Sample,
  Segment,
  Switch,
  Verdict,
};
export { SCHEMA_VERSION };

export interface RecordByKind {
  experiment: Experiment;
  host: Host;
  image: Image;
  segment: Segment;
  router: Router;
  guest: Guest;
  end: End;
  copy: Copy;
  switch: Switch;
  sample: Sample;
  exit: Exit;
  verdict: Verdict;
  error: ErrorRecord;
}
export type Kind = keyof RecordByKind;
export type AnyRecord = RecordByKind[Kind];

/**
 * How a kind travels through `mt-tree map`: `host` to the host it names and back; `self` to the host it
 * is about; `context` to its `hosts`, or to all; `end` last; `report` to nobody.
 */
export type Travel = "host" | "self" | "context" | "end" | "report";

export const KINDS: {
  [K in Kind]: { schema: TSchema; travel: Travel; madeBy: string; examples: RecordByKind[K][] };
} = {
  experiment: {
    schema: experimentSchema,
    travel: "context",
    madeBy: "mt-topo",
    examples: experimentExamples,
  },
  host: { schema: hostSchema, travel: "self", madeBy: "mt-tree", examples: hostExamples },
  image: { schema: imageSchema, travel: "context", madeBy: "mt-image, mt-topo", examples: imageExamples },
  segment: { schema: segmentSchema, travel: "context", madeBy: "mt-topo", examples: segmentExamples },
  router: { schema: routerSchema, travel: "host", madeBy: "mt-topo", examples: routerExamples },
  guest: { schema: guestSchema, travel: "host", madeBy: "mt-topo", examples: guestExamples },
  end: { schema: endSchema, travel: "end", madeBy: "mt-topo", examples: endExamples },
  copy: { schema: copySchema, travel: "report", madeBy: "mt-push", examples: reportExamples.copy },
  switch: { schema: switchSchema, travel: "report", madeBy: "mt-vnet", examples: reportExamples.switch },
  sample: {
    schema: sampleSchema,
    travel: "report",
    madeBy: "mt-ksm, mt-boot, mt-route, mt-status",
    examples: reportExamples.sample,
  },
  exit: { schema: exitSchema, travel: "report", madeBy: "mt-tree, mt-boot", examples: reportExamples.exit },
  verdict: { schema: verdictSchema, travel: "report", madeBy: "mt-status", examples: reportExamples.verdict },
  error: { schema: errorSchema, travel: "report", madeBy: "any", examples: reportExamples.error },
};

const kinds: ReadonlySet<string> = new Set(Object.keys(KINDS));
export const isKind = (kind: string): kind is Kind => kinds.has(kind);

/** How a line travels; an unknown kind with a `host` goes there and comes back, without one it is context. */
export function travelOf(line: { kind: string; host?: unknown }): Travel {
  if (isKind(line.kind)) {
    const travel = KINDS[line.kind].travel;
    return travel === "host" && line.host === undefined ? "context" : travel;
  }
  return line.host === undefined ? "context" : "host";
}

const compiled = new Map<Kind, ReturnType<typeof TypeCompiler.Compile>>();
function checker(kind: Kind) {
  let check = compiled.get(kind);
  if (!check) {
    check = TypeCompiler.Compile(KINDS[kind].schema);
    compiled.set(kind, check);
  }
  return check;
}

/** Checks a line against the schema of its kind: says which field is wrong and what was expected. */
export function validate<K extends Kind>(kind: K, line: unknown): Result<RecordByKind[K], MtError> {
  const check = checker(kind);
  if (check.Check(line)) {
    if (kind === "experiment" && (line as Experiment).version !== SCHEMA_VERSION)
      return fail(
        "data",
        `Cannot read plan version ${(line as Experiment).version}: this tool knows version ${SCHEMA_VERSION}`,
        "use tools of the same release on all hosts",
      );
    return ok(line as RecordByKind[K]);
  }
  // The deepest error says most: a union reports "expected union" first, a missing field itself.
  const first = check.Errors(line).First();
  if (!first) return fail("data", `${kind}: not valid`);
  const field = first.path.replace(/^\//, "").replaceAll("/", ".") || kind;
  const got = first.value === undefined ? "nothing" : JSON.stringify(first.value)?.slice(0, 80);
  const schema = first.schema as { type?: string; description?: string; pattern?: string };
  const expected =
    first.type === ValueErrorType.ObjectRequiredProperty
      ? `${schema.type ?? "a value"}${schema.description ? ` (${schema.description})` : ""}`
      : first.type === ValueErrorType.StringPattern && schema.description
        ? `${schema.description}${patternInWords(schema.pattern)}`
        : lower(first.message);
  return fail("data", `${kind} ${field}: expected ${expected.replace(/^expected /, "")}, got ${got}`);
}
const NAME_IN_WORDS = "letters, digits, . _ -, 40 at most";
const PATTERNS: Readonly<Record<string, string>> = {
  [ID_PATTERN]: NAME_IN_WORDS,
  [RANGE_PATTERN]: `${NAME_IN_WORDS}; one range in brackets`,
  [HOST_PATTERN]: "letters, digits, . _ -, 255 at most",
  [HOST_OR_RANGE_PATTERN]: "letters, digits, . _ -; one range in brackets",
  [IP_PATTERN]: "as 10.254.0.1",
  [CIDR_PATTERN]: "as 10.1.0.1/16",
};
const patternInWords = (pattern = "") => (PATTERNS[pattern] ? ` (${PATTERNS[pattern]})` : "");
const lower = (s: string) => s.charAt(0).toLowerCase() + s.slice(1);

/** A record that says that it failed, and who said so first. */
export interface Failable {
  state?: string;
  error?: MtError;
}
