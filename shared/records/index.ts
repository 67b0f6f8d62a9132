/**
 * Every kind of record, a line each: its schema, how it travels, who makes it. From here come the TypeScript types, the
 * validation (validate.ts), the shipped JSON Schema and mt-records(5).
 */
import type { TSchema } from "@sinclair/typebox";
import type { MtError } from "../errors.ts";
import { SCHEMA_VERSION } from "../version.ts";
import { type Copy, copyExamples, copySchema } from "./copy.ts";
import { type End, endExamples, endSchema } from "./end.ts";
import { type ErrorRecord, errorExamples, errorSchema } from "./error.ts";
import { type Exit, exitExamples, exitSchema } from "./exit.ts";
import { type Experiment, experimentExamples, experimentSchema } from "./experiment.ts";
import { type Guest, guestExamples, guestSchema } from "./guest.ts";
import { type Host, hostExamples, hostSchema } from "./host.ts";
import { type Image, imageExamples, imageSchema } from "./image.ts";
import { type Router, routerExamples, routerSchema } from "./router.ts";
import { type Sample, sampleExamples, sampleSchema } from "./sample.ts";
import { type Segment, segmentExamples, segmentSchema } from "./segment.ts";
import { type Switch, switchExamples, switchSchema } from "./switch.ts";
import { type Verdict, verdictExamples, verdictSchema } from "./verdict.ts";

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
  copy: { schema: copySchema, travel: "report", madeBy: "mt-push", examples: copyExamples },
  switch: { schema: switchSchema, travel: "report", madeBy: "mt-vnet", examples: switchExamples },
  sample: {
    schema: sampleSchema,
    travel: "report",
    madeBy: "mt-ksm, mt-boot, mt-route, mt-status",
    examples: sampleExamples,
  },
  exit: { schema: exitSchema, travel: "report", madeBy: "mt-tree, mt-boot", examples: exitExamples },
  verdict: { schema: verdictSchema, travel: "report", madeBy: "mt-status", examples: verdictExamples },
  error: { schema: errorSchema, travel: "report", madeBy: "any", examples: errorExamples },
};

const kinds: ReadonlySet<string> = new Set(Object.keys(KINDS));
export const isKind = (kind: string): kind is Kind => kinds.has(kind);

/** How a record travels. One of an unknown kind with a `host` goes there and comes back; without, it is context. */
export function travelOf(line: { kind: string; host?: unknown }): Travel {
  if (isKind(line.kind)) {
    const travel = KINDS[line.kind].travel;
    return travel === "host" && line.host === undefined ? "context" : travel;
  }
  return line.host === undefined ? "context" : "host";
}

/** The fields of a record that may have failed; `error.by` is the first tool that said so. */
export interface Failable {
  state?: string;
  error?: MtError;
}
