/** The lines of `mt-status table`. Only states that occur have a column. */
import { plain } from "../../../shared/cli/plain.ts";
import { tableLines } from "../../../shared/cli/table.ts";
import type { MtError } from "../../../shared/errors.ts";
import { GUEST_STATES } from "../../../shared/records/guest.ts";
import type { Experiment, Verdict } from "../../../shared/records/index.ts";
import { ROUTER_STATES } from "../../../shared/records/router.ts";

export interface HostRow {
  host: string;
  state: string;
  /** How many guests, routers, by state. */
  guests: Record<string, number>;
  routers: Record<string, number>;
}
export interface Failure {
  what: string;
  host: string | undefined;
  error: MtError | undefined;
}

const FAILURES_SHOWN_MAX = 50;

const total = (by: Record<string, number>) => Object.values(by).reduce((sum, n) => sum + n, 0);

function addUp(rows: readonly HostRow[], which: "guests" | "routers"): Record<string, number> {
  const all: Record<string, number> = {};
  for (const row of rows)
    for (const [state, n] of Object.entries(row[which])) all[state] = (all[state] ?? 0) + n;
  return all;
}

export function renderTable(
  experiment: Experiment | undefined,
  rows: readonly HostRow[],
  failures: readonly Failure[],
  verdicts: readonly Verdict[],
): string[] {
  const sum: HostRow = {
    host: "total",
    state: "",
    guests: addUp(rows, "guests"),
    routers: addUp(rows, "routers"),
  };
  const guestStates = GUEST_STATES.filter((s) => sum.guests[s]);
  const routerStates = ROUTER_STATES.filter((s) => sum.routers[s]);
  const cells = (row: HostRow) => [
    row.host,
    row.state,
    String(total(row.guests)),
    ...guestStates.map((s) => String(row.guests[s] ?? 0)),
    String(total(row.routers)),
    ...routerStates.map((s) => String(row.routers[s] ?? 0)),
  ];
  const lines = experiment ? [plain(`experiment ${experiment.id}, seed ${experiment.seed}`), ""] : [];
  const head = ["HOST", "STATE", "GUESTS", ...guestStates, "ROUTERS", ...routerStates];
  lines.push(...tableLines([head, ...rows.map(cells), ...(rows.length === 1 ? [] : [cells(sum)])], 2));
  if (failures.length > 0) lines.push("", "Failed:");
  for (const { what, host, error } of failures.slice(0, FAILURES_SHOWN_MAX)) {
    const where = host === undefined ? "" : ` on ${host}`;
    const by = error?.by === undefined ? "" : `${error.by}: `;
    lines.push(plain(`  ${what}${where}: ${by}${error?.message ?? "it does not say why"}`));
    if (error?.hint) lines.push(plain(`    hint: ${error.hint}`));
  }
  const more = failures.length - FAILURES_SHOWN_MAX;
  if (more > 0) lines.push(`  and ${more} records more`);
  for (const v of verdicts) {
    const apart = v.pairs_left_out ? `, ${v.pairs_left_out} left out between parts of the network` : "";
    const left = v.left_behind === undefined ? "" : `, ${v.left_behind} left behind`;
    lines.push(
      "",
      plain(
        `Verdict of ${v.id}: ${v.converged ?? 0} of ${v.routers ?? 0} routers converged, ${v.ready ?? 0} of ${v.guests ?? 0} guests ready, ${v.pairs_reached ?? 0} of ${v.pairs_tried ?? 0} pings answered${apart}${left}`,
      ),
    );
  }
  return lines;
}
