/**
 * This host's part of a network: takes records as they come and makes what they need in batches of what
 * came together, segments first, then the ports of routers and guests.
 */
import { guestMac, routerMac } from "../../../shared/addresses.ts";
import { type FilterCall, hostOf } from "../../../shared/cli/filter-command.ts";
import type { Progress } from "../../../shared/cli/progress.ts";
import { inform, warn } from "../../../shared/cli/stderr.ts";
import { type MtError, mtError, orThrow, toMtError } from "../../../shared/errors.ts";
import { linkAlias, routerNamespace, routerPortName, tapName } from "../../../shared/host/names.ts";
import type { End, Guest, Router, Segment } from "../../../shared/records/index.ts";
import { foldOutcomes, guestMembers, type Outcome } from "../../../shared/records/members.ts";
import { isUnplaced, notPlaced } from "../../../shared/records/placed.ts";
import { failedEarlier, withoutFailure } from "../../../shared/stages.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { type Collector, collect } from "../kernel/collect.ts";
import { NEIGHBOURS_USUAL, neighboursOn, raiseNeighbourTable } from "../kernel/neighbours.ts";
import type { Shaper } from "../shape/shaper.ts";
import type { Building, Fabric, Owner, Port, RouterWork, SegmentState } from "./fabric.ts";
import { isHere } from "./plan-here.ts";
import { switchRecord } from "./switch-record.ts";

/** What came in one record: a segment to build, or the ports of a router or of a range of guests. */
type Item = { segment: Segment; state: SegmentState } | { ports: Port[]; router?: RouterWork };

export class Network {
  experiment: string | undefined;
  readonly #host: string;
  readonly #progress: Progress;
  readonly #fabric: Fabric;
  readonly #shaper: Shaper;
  readonly #segments = new Map<string, SegmentState>();
  readonly #work: Collector<Item>;
  readonly #missing: MtError | undefined;
  #building: Building | undefined;
  /** Neighbours that a router has, by segment; and those of all routers of this host together. */
  readonly #neighboursOn = new Map<string, number>();
  #neighbours = 0;
  #notRaised: MtError | undefined;

  constructor(call: FilterCall, progress: Progress, fabric: Fabric, shaper: Shaper) {
    this.#host = hostOf(call);
    this.#progress = progress;
    this.#fabric = fabric;
    this.#shaper = shaper;
    this.#missing = fabric.missing();
    this.#work = collect((items) => this.#build(items));
  }

  segment(segment: Segment, context: FilterContext): void {
    if (!isHere(segment, this.#host)) return;
    const state: SegmentState = { id: segment.id, ports: 0 };
    this.#segments.set(segment.id, state);
    if (isUnplaced(segment)) {
      state.error = notPlaced(segment);
      context.note(state.error);
      return;
    }
    this.#neighboursOn.set(segment.id, neighboursOn(segment));
    // An error of the whole batch is also on its ports; report() puts it on the switch record.
    this.#work.add({ segment, state }).catch((thrown) => {
      state.error ??= toMtError(thrown);
    });
  }

  async router(router: Router, context: FilterContext): Promise<Router | undefined> {
    if (failedEarlier(router, context.by) || context.signal.aborted) return undefined;
    const clean = withoutFailure(router);
    const experiment = this.#ready();
    if (typeof experiment !== "string") return context.failed(clean, experiment);
    const owner: Owner = {};
    for (const { segment } of router.interfaces) this.#neighbours += this.#neighboursOn.get(segment) ?? 0;
    const interfaces = router.interfaces.map(({ ip, segment }) => ({
      ip,
      segment: this.#segmentOf(segment),
    }));
    const work: RouterWork = { netns: routerNamespace(this.#host, experiment, router.id), owner, interfaces };
    const ports = interfaces.map(
      ({ segment }, n): Port => ({
        owner,
        nic: n,
        name: routerPortName(experiment, router.id, n),
        alias: linkAlias(experiment, "router", router.id, n),
        segment,
        router: work,
        mac: routerMac(router.index, n),
      }),
    );
    await this.#make({ ports, router: work });
    if (owner.error) return context.failed(clean, owner.error);
    return clean === router ? undefined : clean;
  }

  async guest(guest: Guest, context: FilterContext): Promise<Guest | Guest[] | undefined> {
    if (failedEarlier(guest, context.by) || context.signal.aborted) return undefined;
    const clean = withoutFailure(guest);
    const experiment = this.#ready();
    if (typeof experiment !== "string") return context.failed(clean, experiment);
    const members = guestMembers(guest);
    if (members.isErr()) return context.failed(clean, members.error);
    const owners: Owner[] = members.value.map(() => ({}));
    const ports = members.value.flatMap((member, k) =>
      member.interfaces.map(
        (nic, n): Port => ({
          owner: owners[k]!,
          nic: n,
          name: tapName(experiment, member.id, n),
          alias: linkAlias(experiment, "guest", member.id, n),
          segment: this.#segmentOf(nic.segment),
          mac: guestMac(member.index, n),
        }),
      ),
    );
    await this.#make({ ports });
    if (owners.every((o) => !o.error)) return clean === guest ? undefined : clean;
    const outcomes = owners.map(
      ({ error }): Outcome =>
        error ? { state: "failed", error: { by: context.by, ...error } } : { state: clean.state },
    );
    return orThrow(foldOutcomes(clean, outcomes));
  }

  /** When the whole stream has been read: one switch record a segment. */
  async report(context: FilterContext, end?: End): Promise<void> {
    await this.#work.idle();
    this.#progress.stop();
    if (this.#missing) context.note(this.#missing);
    // All hosts of the plan may be on one machine, with one table. A small network does without a larger one, and a
    // container may not change it: so this is a warning, and only where the network is not small.
    const needed = this.#neighbours * (end?.counts.host ?? 1);
    if (this.#notRaised && needed > NEIGHBOURS_USUAL)
      warn({
        ...this.#notRaised,
        hint: `the ARP table keeps its size, and up to ${needed} neighbours need room in it; see gc_thresh3 in arp(7)`,
      });
    const unsealed = [...this.#segments.values()].find((state) => state.unsealed !== undefined)?.unsealed;
    if (unsealed !== undefined) warn(unsealed);
    for (const state of this.#segments.values()) {
      const where = this.#building?.switchOf(state.id);
      context.emit(switchRecord(state, where, this.#host, this.#shaper, context.by, this.#missing));
    }
  }

  /** The experiment, or why nothing can be done. */
  #ready(): string | MtError {
    if (this.#missing) return this.#missing;
    return (
      this.experiment ??
      mtError(
        "data",
        "Cannot build ports: no experiment record came before",
        "a plan begins with its experiment record",
      )
    );
  }

  #segmentOf(id: string): SegmentState {
    return (
      this.#segments.get(id) ?? {
        id,
        ports: 0,
        error: mtError("data", "no such segment on this host came before"),
      }
    );
  }

  async #make(item: Extract<Item, { ports: Port[] }>): Promise<void> {
    this.#progress.grow(item.ports.length);
    await this.#work.add(item);
    this.#progress.step(item.ports.length, item.ports.filter((p) => p.owner.error).length);
  }

  async #build(items: Item[]): Promise<void> {
    const { experiment } = this;
    if (this.#missing) return;
    if (experiment === undefined) {
      for (const item of items)
        if ("state" in item)
          item.state.error = mtError("data", "Cannot build a segment: no experiment record came before");
      return;
    }
    this.#building ??= await this.#begin(experiment);
    const building = this.#building;
    const states: SegmentState[] = [];
    for (const item of items) {
      if (!("state" in item)) continue;
      building.plan(item.segment).match(
        (plan) => {
          item.state.plan = plan;
          item.state.error = this.#shaper.impossible(plan);
        },
        (error) => {
          item.state.error = error;
        },
      );
      states.push(item.state);
    }
    for (const note of await this.#shaper.probe(states.flatMap((s) => s.plan ?? []))) inform(note);
    await building.segments(states);
    const work = items.flatMap((item) => ("ports" in item ? [item] : []));
    if (work.length > 0)
      await building.ports(
        work.flatMap((w) => w.ports),
        work.flatMap((w) => w.router ?? []),
      );
  }

  /** Once, before anything is made. */
  async #begin(experiment: string): Promise<Building> {
    const raised = await raiseNeighbourTable(this.#host, experiment);
    if (raised.isErr()) this.#notRaised = raised.error;
    return orThrow(await this.#fabric.open(experiment, this.#host, this.#shaper));
  }
}
