/**
 * Who pings whom. Of every LAN one ready guest is a target, drawn by the experiment's seed; the guests of a
 * LAN ping targets of other LANs. Guests of one LAN have the same targets, so ranges stay ranges.
 */
import { cidrPlus } from "../../shared/addresses.ts";
import { memberAt } from "../../shared/ranges.ts";
import { type GuestRun, lanOf } from "./census.ts";
import { drawer, sample } from "./draw.ts";

export interface Target {
  guest: string;
  ip: string;
}

/** Guests that ping, and what they ping. */
export interface Source {
  run: GuestRun;
  targets: Target[];
}

/** How many LANs have guests, ready or not. */
export function lanCount(runs: Iterable<GuestRun>): number {
  const lans = new Set<string>();
  for (const { guest } of runs) lans.add(lanOf(guest) ?? "");
  lans.delete("");
  return lans.size;
}

/** @param perGuest how many targets a guest has at most */
export function choosePairs(runs: Iterable<GuestRun>, seed: number, perGuest: number): Source[] {
  const lans = new Map<string, GuestRun[]>();
  for (const run of runs) {
    const lan = lanOf(run.guest);
    if (lan === undefined || run.guest.state !== "ready") continue;
    const known = lans.get(lan);
    if (known) known.push(run);
    else lans.set(lan, [run]);
  }
  const targets = [...lans].flatMap(([lan, members]) => {
    const target = chooseTarget(members, drawer(seed, "target", lan));
    return target ? [{ lan, target }] : [];
  });
  return [...lans].flatMap(([lan, members]) => {
    // One more than wanted is drawn, so that its own can be left out.
    const drawn = sample(targets, perGuest + 1, drawer(seed, "targets", lan));
    const chosen = drawn
      .filter((t) => t.lan !== lan)
      .slice(0, perGuest)
      .map((t) => t.target);
    return chosen.length === 0 ? [] : members.map((run) => ({ run, targets: chosen }));
  });
}

function chooseTarget(members: readonly GuestRun[], draw: (n: number) => number): Target | undefined {
  let k = draw(members.reduce((sum, run) => sum + run.count, 0));
  for (const run of members) {
    if (k >= run.count) {
      k -= run.count;
      continue;
    }
    const first = run.guest.interfaces.find((nic) => nic.ip)?.ip;
    const ip = first === undefined ? undefined : cidrPlus(first, k);
    if (!ip?.isOk()) return undefined;
    return { guest: memberAt(run.range, k), ip: ip.value.split("/")[0]! };
  }
  return undefined;
}
