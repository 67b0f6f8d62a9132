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
import { runBatch } from "../kernel/batch.ts";
import { type Collector, collect } from "../kernel/collect.ts";
import { type Link, readDetails, readLinks, whatIsMissing } from "../kernel/kernel.ts";
import { NEIGHBOURS_USUAL, neighboursOn, raiseNeighbourTable } from "../kernel/neighbours.ts";
import { probe, type Shaper, unshapeable } from "../shape/shape.ts";
import { buildPorts, type Port } from "./ports.ts";
import type { Owner, RouterWork } from "./routers.ts";
import { isHere, planSegment } from "./segment-plan.ts";
import { buildSegments, type SegmentState } from "./segments.ts";
import { switchRecord } from "./switch-record.ts";

/** What came in one record: a segment to build, or the ports of a router or of a range of guests. */
type Item = { segment: Segment; state: SegmentState } | { ports: Port[]; router?: RouterWork };

export class Network {
  experiment: string | undefined;
  readonly #host: string;
  readonly #progress: Progress;
  readonly #segments = new Map<string, SegmentState>();
  readonly #shaper: Shaper = {};
  readonly #work: Collector<Item>;
  readonly #missing: MtError | undefined = whatIsMissing();
  #links: Map<string, Link> | undefined;
  /** Neighbours that a router has, by segment; and those of all routers of this host together. */
  readonly #neighboursOn = new Map<string, number>();
  /** Names of the ports that the plan has here. */
  readonly #asked = new Set<string>();
  #neighbours = 0;
  #notRaised: MtError | undefined;

  constructor(call: FilterCall, progress: Progress) {
    this.#host = hostOf(call);
    this.#progress = progress;
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
    // What goes wrong with the whole batch comes out with the ports, and again in report().
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

  /** One switch record a segment; the stream is read, so everything has been asked for. */
  async report(context: FilterContext, end?: End): Promise<void> {
    await this.#work.idle();
    this.#progress.stop();
    if (end !== undefined) await this.#forgetMoved();
    if (this.#missing) context.note(this.#missing);
    // Hosts may be of one machine, with one table: as many as the plan has. A small network works without
    // more, and a container may not touch it: said where it matters, never fatal.
    const needed = this.#neighbours * (end?.counts.host ?? 1);
    if (this.#notRaised && needed > NEIGHBOURS_USUAL)
      warn({
        ...this.#notRaised,
        hint: `the ARP table keeps its size, and up to ${needed} neighbours need room in it; see gc_thresh3 in arp(7)`,
      });
    const unsealed = [...this.#segments.values()].find((state) => state.unsealed !== undefined)?.unsealed;
    if (unsealed !== undefined)
      warn(
        mtError(
          "unavailable",
          `Cannot keep broadcasts of guests from this host: ${unsealed}`,
          "the kernel needs clsact and cls_bpf: modprobe -a sch_ingress cls_bpf",
        ),
      );
    for (const state of this.#segments.values())
      context.emit(switchRecord(state, this.#host, this.#shaper, context.by, this.#missing));
  }

  /** Guests that are on another host now: their MACs are behind the tunnel, not behind the ports that they had here. */
  async #forgetMoved(): Promise<void> {
    const bridges = new Set(
      [...this.#segments.values()].flatMap(({ plan }) => (plan?.tunnel === undefined ? [] : [plan.bridge])),
    );
    const moved = [...(this.#links ?? [])].filter(
      ([name, { master }]) =>
        master !== undefined && bridges.has(master) && name.startsWith("t") && !this.#asked.has(name),
    );
    const lines = moved.flatMap(([name, { macs = [] }]) =>
      macs.map((mac) => ({ line: `fdb del ${mac} dev ${name} master`, failed: () => {} })),
    );
    if (lines.length > 0) await runBatch("bridge", lines);
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
    for (const { name } of item.ports) this.#asked.add(name);
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
    this.#links ??= await this.#begin(experiment);
    const links = this.#links;
    const states: SegmentState[] = [];
    for (const item of items) {
      if (!("state" in item)) continue;
      planSegment(experiment, item.segment, this.#host, links).match(
        (plan) => {
          item.state.plan = plan;
          item.state.error = unshapeable(plan);
        },
        (error) => {
          item.state.error = error;
        },
      );
      states.push(item.state);
    }
    const netem = this.#shaper.netem;
    await probe(
      this.#shaper,
      states.flatMap((s) => s.plan ?? []),
    );
    if (netem === undefined && this.#shaper.netem === false)
      inform("delay_ms and loss are not applied: this kernel has no netem (CONFIG_NET_SCH_NETEM)");
    await buildSegments(states, links);
    const work = items.flatMap((item) => ("ports" in item ? [item] : []));
    if (work.length > 0)
      await buildPorts(
        work.flatMap((w) => w.ports),
        work.flatMap((w) => w.router ?? []),
        links,
        this.#shaper,
      );
  }

  /** Once, before anything is made. */
  async #begin(experiment: string): Promise<Map<string, Link>> {
    const raised = await raiseNeighbourTable(this.#host, experiment);
    if (raised.isErr()) this.#notRaised = raised.error;
    const links = orThrow(await readLinks());
    orThrow(await readDetails(links, experiment));
    return links;
  }
}
