/**
 * Ports of guests that the plan has on other hosts now. The segment's own record says so (`members`), so a plan of
 * which only a part came takes nothing away. Such a guest is behind the tunnel: a port here that still has its
 * MAC would keep frames from it.
 */
import { guestIndexOf } from "../../../../shared/addresses.ts";
import { mtError } from "../../../../shared/errors.ts";
import { type Command, runBatch } from "../../kernel/batch.ts";
import type { Link } from "../../kernel/kernel.ts";
import { remove } from "../../kernel/remove.ts";
import type { SegmentState } from "../fabric.ts";
import type { BridgePlan } from "./segment-plan.ts";

/** Taps on the segment's bridge that belong to guests on other hosts. */
export function movedTaps(plan: BridgePlan, links: ReadonlyMap<string, Link>): Link[] {
  if (plan.elsewhere.length === 0) return [];
  return [...links.values()].filter(
    ({ master, kind, macs = [] }) =>
      master === plan.bridge &&
      kind === "tap" &&
      macs.some((mac) => {
        const index = guestIndexOf(mac);
        return (
          index !== undefined &&
          plan.elsewhere.some((run) => index >= run.index && index < run.index + run.count)
        );
      }),
  );
}

/** Removes those that no QEMU has open. A guest that still runs here keeps its tap until `mt-boot down`, without its MAC. */
export async function removeMoved(
  states: readonly SegmentState[],
  plans: ReadonlyMap<string, BridgePlan>,
  links: Map<string, Link>,
): Promise<void> {
  const stateOf = new Map<string, SegmentState>();
  const forget: Command[] = [];
  for (const state of states) {
    const plan = plans.get(state.id);
    if (!plan || state.error) continue;
    for (const { ifname, carrier, macs = [] } of movedTaps(plan, links)) {
      if (!carrier) stateOf.set(ifname, state);
      else
        for (const mac of macs)
          forget.push({
            line: `fdb del ${mac} dev ${ifname} master`,
            failed: (why) => {
              state.error ??= mtError(
                "failed",
                `Cannot build segment ${state.id}: ${ifname}, of a guest that moved to another host, keeps its MAC: ${why}`,
              );
            },
          });
    }
  }
  await runBatch("bridge", forget);
  if (stateOf.size === 0) return;
  const left = await remove({ links: new Set(stateOf.keys()), namespaces: [] }, links);
  for (const [name, state] of stateOf) {
    const error = left.get(name);
    if (error) state.error ??= error;
    else links.delete(name);
  }
}
