/**
 * Who pings whom. Of every LAN one ready guest is a target, drawn by the experiment's seed; the guests of a
 * LAN ping targets of other LANs. Guests of one LAN have the same targets, so ranges stay ranges. Where
 * there is one LAN only, its guests ping one of themselves, and that one another.
 */
import { cidrPlus } from "../../shared/addresses.ts";
import { memberAt, positionIn, sliceRange } from "../../shared/ranges.ts";
import { sliceGuest } from "../../shared/records/members.ts";
import { type GuestRun, lanOf } from "./census.ts";
import { drawer, sample } from "./draw.ts";

export interface Target {
  guest: string;
  host: string | undefined;
  ip: string;
}

/** Guests that ping, and what they ping. */
export interface Source {
  run: GuestRun;
  targets: Target[];
}

/** Whether there is anybody to ping: guests on two LANs, or two on the only one; ready or not. */
export function askable(runs: Iterable<GuestRun>): boolean {
  const on_lans = [...runs].filter(({ guest }) => lanOf(guest) !== undefined);
  return lanCount(on_lans) > 1 || on_lans.reduce((sum, run) => sum + run.count, 0) > 1;
}

const lanCount = (runs: readonly GuestRun[]) => new Set(runs.map(({ guest }) => lanOf(guest) ?? "")).size;

/** @param perGuest how many targets a guest has at most */
export function choosePairs(runs: Iterable<GuestRun>, seed: number, perGuest: number): Source[] {
  const lans = new Map<string, GuestRun[]>();
  const on_lans = [...runs].filter(({ guest }) => lanOf(guest) !== undefined);
  if (lanCount(on_lans) === 1) return insideOne(on_lans, seed);
  for (const run of on_lans) {
    const lan = lanOf(run.guest)!;
    if (run.guest.state !== "ready") continue;
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

/** The ready guests of the only LAN ping one of them; that one pings another. */
function insideOne(runs: readonly GuestRun[], seed: number): Source[] {
  const ready = runs.filter(({ guest }) => guest.state === "ready");
  const lan = ready[0] && lanOf(ready[0].guest);
  if (lan === undefined || ready.reduce((sum, run) => sum + run.count, 0) < 2) return [];
  const target = chooseTarget(ready, drawer(seed, "target", lan));
  if (!target) return [];
  const pieces = ready.flatMap((run) => {
    const k = positionIn(run.range, target.guest);
    return k < 0 ? [run] : [slice(run, 0, k), slice(run, k, 1), slice(run, k + 1, run.count - k - 1)].flat();
  });
  const isTarget = (run: GuestRun) => run.count === 1 && memberAt(run.range, 0) === target.guest;
  const others = pieces.filter((run) => !isTarget(run));
  const other = chooseTarget(others, drawer(seed, "targets", lan));
  return pieces.flatMap((run) => {
    const its = isTarget(run) ? other : target;
    return its ? [{ run, targets: [its] }] : [];
  });
}

/** Members of a run as a run of their own; none for none. */
function slice(run: GuestRun, from: number, count: number): GuestRun[] {
  const guest = count > 0 ? sliceGuest(run.guest, from, count) : undefined;
  return guest?.isOk() ? [{ guest: guest.value, range: sliceRange(run.range, from, count), count }] : [];
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
    return { guest: memberAt(run.range, k), host: run.guest.host, ip: ip.value.split("/")[0]! };
  }
  return undefined;
}
