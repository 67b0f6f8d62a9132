/** `switch`: a segment as it stands on one host. */
import { type Static, Type } from "@sinclair/typebox";
import { count, failure, id, open, state, subjectHost, text } from "./fields.ts";

export const switchSchema = Type.Object(
  {
    kind: Type.Literal("switch"),
    id: id("the segment"),
    host: subjectHost,
    state: state(["up", "down", "failed"], "what was last true"),
    bridge: Type.Optional(text("name of the bridge in the host's namespace")),
    tunnel: Type.Optional(text("name of the VXLAN link, where the segment spans hosts")),
    ports: Type.Optional(count("ports of guests and routers on it")),
    mtu: Type.Optional(count("MTU of everything on it")),
    applied: Type.Optional(
      Type.Record(Type.String(), Type.Boolean(), {
        description: "delay_ms, rate_mbit, loss: whether the kernel does it",
      }),
    ),
    ...failure,
  },
  { ...open, description: "a segment as it stands on one host" },
);
export type Switch = Static<typeof switchSchema>;
export const switchExamples: Switch[] = [
  {
    kind: "switch",
    id: "chi-nyc",
    host: "kn1",
    state: "up",
    bridge: "bq3xk2ydzmfa7",
    ports: 1,
    applied: { delay_ms: false },
  },
];
