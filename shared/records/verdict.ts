/** `verdict`: what was asked, what is true. */
import { type Static, Type } from "@sinclair/typebox";
import { count, failure, id, measure, open } from "./fields.ts";

export const verdictSchema = Type.Object(
  {
    kind: Type.Literal("verdict"),
    id: id("the experiment"),
    hosts: Type.Optional(count("hosts of the plan")),
    routers: Type.Optional(count("routers of the plan")),
    converged: Type.Optional(count("routers whose table holds every prefix")),
    guests: Type.Optional(count("guests of the plan")),
    ready: Type.Optional(count("guests that said so themselves")),
    pairs_tried: Type.Optional(
      count("pings between guests of different LANs, or inside the only LAN of a part"),
    ),
    pairs_reached: Type.Optional(count("of them, how many were answered")),
    pairs_full_sized: Type.Optional(
      count("of these, how many were answered at the full size of the guest's MTU, too"),
    ),
    pairs_left_out: Type.Optional(
      count("pings that were not tried: the plan has no way from the one part of the network to the other"),
    ),
    left_behind: Type.Optional(
      count("processes, namespaces, links, mounts, settings, run files that should be gone"),
    ),
    seconds: Type.Optional(measure("from the first step to this verdict")),
    ...failure,
  },
  { ...open, description: "what was asked, what is true" },
);
export type Verdict = Static<typeof verdictSchema>;
export const verdictExamples: Verdict[] = [
  {
    kind: "verdict",
    id: "abilene",
    hosts: 4,
    routers: 11,
    converged: 11,
    guests: 44,
    ready: 44,
    pairs_tried: 440,
    pairs_reached: 440,
    pairs_full_sized: 440,
  },
];
