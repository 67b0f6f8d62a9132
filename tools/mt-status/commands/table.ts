/**
 * `mt-status table`: a stream as a table for people: a line a host, what failed and why, totals. Ranges are counted and
 * never expanded, so that a plan of a million guests costs little.
 */
import type { Run } from "../../../shared/cli/invocation.ts";
import { warn } from "../../../shared/cli/stderr.ts";
import { parseRange, rangeCount } from "../../../shared/nodeset/ranges.ts";
import type { Experiment, Failable, Guest, Host, Router, Verdict } from "../../../shared/records/index.ts";
import { runFilter } from "../../../shared/stream/filter.ts";
import { stdinChunks } from "../../../shared/stream/stdin.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import type { spec } from "../spec.ts";
import { type Failure, type HostRow, renderTable } from "../view/render.ts";

/** The output is the table: records are not written. */
class NoRecords extends LineWriter {
  override line(): void {}
  override flush(): void {}
}

export const table: Run<typeof spec, "table"> = async (invocation) => {
  let experiment: Experiment | undefined;
  const rows = new Map<string, HostRow>();
  const failures: Failure[] = [];
  const verdicts: Verdict[] = [];
  const rowOf = (host = "-") => {
    let row = rows.get(host);
    if (!row) rows.set(host, (row = { host, state: "", guests: {}, routers: {} }));
    return row;
  };
  const count = (by: Record<string, number>, state = "planned", n = 1) => {
    by[state] = (by[state] ?? 0) + n;
  };
  const noteFailure = (record: { kind: string; id: string; host?: string } & Failable) => {
    if (record.state === "failed")
      failures.push({ what: `${record.kind} ${record.id}`, host: record.host, error: record.error });
    return undefined;
  };
  const result = await runFilter(
    {
      by: invocation.tool,
      host: "",
      anyHost: true,
      only: true,
      changes: false,
      reads: {
        experiment: (record) => {
          experiment = record;
          return undefined;
        },
        host: (record: Host) => {
          rowOf(record.id).state = record.state ?? "";
          return noteFailure(record);
        },
        router: (record: Router) => {
          count(rowOf(record.host).routers, record.state);
          return noteFailure(record);
        },
        guest: (record: Guest, context) => {
          const range = parseRange(record.id);
          if (range.isErr()) context.note(range.error);
          else count(rowOf(record.host).guests, record.state, rangeCount(range.value));
          return noteFailure(record);
        },
        image: (record) => noteFailure(record as typeof record & Failable),
        segment: (record) => noteFailure(record as typeof record & Failable),
        copy: noteFailure,
        switch: noteFailure,
        verdict: (record) => {
          verdicts.push(record);
          return undefined;
        },
      },
    },
    { input: stdinChunks(), signal: invocation.signal, writer: new NoRecords() },
  );
  const writer = new LineWriter();
  for (const line of renderTable(experiment, [...rows.values()], failures, verdicts)) writer.line(line);
  writer.flush();
  if (result.error && !invocation.signal.aborted) warn(result.error);
  return result.code;
};
