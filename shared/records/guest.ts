/** `guest`: a virtual machine, or a range of them that differ only in what counts up. */
import { type Static, Type } from "@sinclair/typebox";
import { cidr, count, failure, host, id, ip, open, positive, range, segmentMtu, state } from "./fields.ts";

export const GUEST_STATES = ["planned", "paused", "running", "ready", "stopped", "failed"] as const;
export type GuestState = (typeof GUEST_STATES)[number];

export const guestSchema = Type.Object(
  {
    kind: Type.Literal("guest"),
    id: range("name, or a range of names"),
    host,
    index: count("number of the (first) guest, once in an experiment; MACs come from it"),
    image: id("the image that it boots"),
    cores: positive("virtual processors"),
    mem_mib: positive("memory"),
    interfaces: Type.Array(
      Type.Object(
        {
          segment: id("the segment that the interface is on"),
          ip: Type.Optional(cidr("its address; those of a range count up from it")),
          mtu: Type.Optional(segmentMtu("MTU of the segment; mt-topo place writes it")),
          gateway: Type.Optional(ip("default gateway")),
        },
        open,
      ),
      { maxItems: 256, description: "eth0, eth1, … in order" },
    ),
    priority: Type.Optional(
      Type.Integer({ description: "who dies last when memory runs out: the higher; absent: 0" }),
    ),
    state: state(
      GUEST_STATES,
      "what was last true: paused is stopped at the barrier in its boot, ready said so itself",
    ),
    ...failure,
  },
  { ...open, description: "a virtual machine, or a range of them" },
);
export type Guest = Static<typeof guestSchema>;
export const guestExamples: Guest[] = [
  {
    kind: "guest",
    id: "g[0-3]",
    host: "kn1",
    index: 0,
    image: "tux",
    cores: 1,
    mem_mib: 128,
    interfaces: [{ segment: "lan-chi", ip: "10.1.0.10/16", mtu: 1500, gateway: "10.1.0.1" }],
  },
];
