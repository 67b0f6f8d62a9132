/**
 * A fabric: what connects the guests and routers of a segment, on one host and between hosts. Commands and
 * network.ts call only what stands here.
 */
import type { Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import type { Segment } from "../../../shared/records/index.ts";
import type { Shape, Shaper } from "../shape/shaper.ts";
import type { LinkEnd } from "./plan-here.ts";
import type { Tried } from "./try-link.ts";

/** What a segment needs on this host. */
export interface SegmentPlan extends Shape {
  mtu: number;
}

/** A segment on this host, and what came of it. */
export interface SegmentState {
  id: string;
  /** Absent where the record could not be planned. */
  plan?: SegmentPlan;
  error?: MtError;
  /** How many ports of guests and routers of this plan it has. */
  ports: number;
  /** Why its frames can still reach the host itself. */
  unsealed?: MtError;
  /** A port of it could not be shaped. */
  unshaped?: boolean;
}

/** A guest or router whose ports are made; its first error is its outcome. */
export interface Owner {
  error?: MtError;
}

/** A router whose namespace is made. */
export interface RouterWork {
  netns: string;
  owner: Owner;
  /** eth0, eth1, … in order: the address, and the segment that gives the MTU. */
  interfaces: { ip: string; segment: SegmentState }[];
}

/** An interface of a guest (a tap) or of a router (one end of a veth pair). */
export interface Port {
  owner: Owner;
  /** Interface number in the guest or router. */
  nic: number;
  name: string;
  alias: string;
  segment: SegmentState;
  /** The router whose namespace has the other end of the veth pair; a tap has none. */
  router?: RouterWork;
  /** The guest's or router's MAC. */
  mac: string;
}

/** Where a segment is on this host, as a switch record says it. */
export interface Switch {
  bridge: string;
  tunnel?: string;
  vni?: number;
  udp_port?: number;
}

/** A segment that the kernel has, whatever plan made it. */
export interface SwitchHere extends Switch {
  kind: "switch";
  id: string;
  host: string;
  experiment: string;
  state: "up" | "down";
  ports: number;
  mtu: number;
}

/** One run of `mt-vnet up`: it knows what was there at its start, and what it has made since. */
export interface Building {
  /** Works out what a segment needs here; changes nothing. */
  plan(segment: Segment): Result<SegmentPlan, MtError>;
  /** Makes what is missing of planned segments; what fails is noted as their error. */
  segments(states: readonly SegmentState[]): Promise<void>;
  /** Makes what is missing of ports and of routers' namespaces; what fails is noted on their owners. */
  ports(ports: readonly Port[], routers: readonly RouterWork[]): Promise<void>;
  /** Where a planned segment is. */
  switchOf(segment: string): Switch | undefined;
}

export interface Fabric {
  /** Why nothing can be done on this machine: rights, programs. */
  missing(): MtError | undefined;
  /** Reads what is there. */
  open(experiment: string, host: string, shaper: Shaper): Promise<Result<Building, MtError>>;
  /** Names of the links of a segment itself, its ports not among them. */
  segmentLinks(experiment: string, segment: string): string[];
  /**
   * Removes segments with their ports, other ports, and routers' namespaces; what is not there is no failure.
   * @param ports names of links
   * @returns what is still there, by name, with the reason
   */
  remove(
    experiment: string,
    segments: readonly string[],
    ports: Iterable<string>,
    namespaces: Iterable<string>,
  ): Promise<Map<string, MtError>>;
  /** Removes all that this experiment has on this host; returns what is still there. */
  removeAll(experiment: string, host: string): Promise<Map<string, MtError>>;
  /** The segments that are there now. */
  switches(host: string): Promise<Result<SwitchHere[], MtError>>;
  /** Packets that have come from the other host of a link; undefined where that is not known. */
  received(experiment: string, end: LinkEnd): Promise<number | undefined>;
  /**
   * What keeps frames from getting to the other end of a link and back, and what mends it.
   * @param received_before what `received` gave before the link was tried
   */
  whyLost(
    experiment: string,
    host: string,
    end: LinkEnd,
    tried: Exclude<Tried, { is: "whole" }>,
    received_before: number | undefined,
    signal: AbortSignal,
  ): Promise<MtError>;
}
