/**
 * The kinds that tools make to say what is true. They go to no host and never need to come back in;
 * one with the same kind, id and host replaces the older.
 */
import { type Static, Type } from "@sinclair/typebox";
import {
  count,
  error,
  failure,
  hostId,
  hostOrRange,
  id,
  measure,
  open,
  state,
  text,
  time,
} from "./fields.ts";

const where = Type.Optional(hostId("the host that it is about"));

export const copySchema = Type.Object(
  {
    kind: Type.Literal("copy"),
    id: id("the image"),
    host: where,
    state: state(["present", "failed"], "whether all its files are there, digests checked"),
    bytes: Type.Optional(count("bytes brought there now; 0: all was there already")),
    ...failure,
  },
  { ...open, description: "an image as it stands on one host" },
);
export type Copy = Static<typeof copySchema>;

export const switchSchema = Type.Object(
  {
    kind: Type.Literal("switch"),
    id: id("the segment"),
    host: where,
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

export const sampleSchema = Type.Object(
  {
    kind: Type.Literal("sample"),
    id: id("what was measured: the experiment, or the tool"),
    host: where,
    time: time("when"),
    state: state(["failed"], "set where measuring failed"),
    ...failure,
  },
  { ...open, description: "measurements of one host or experiment at one time" },
);
export type Sample = Static<typeof sampleSchema> & { [measurement: string]: unknown };

export const exitSchema = Type.Object(
  {
    kind: Type.Literal("exit"),
    id: hostOrRange("the host or guest that the command ran on"),
    host: where,
    guest: Type.Optional(id("the guest that it ran in")),
    code: Type.Optional(
      Type.Integer({ description: "exit code; absent where the command did not end by itself" }),
    ),
    signal: Type.Optional(text("signal that ended it")),
    stdout: Type.Optional(text("what it printed, lossily as UTF-8")),
    stderr: Type.Optional(text("what it printed on stderr")),
    stdout_base64: Type.Optional(text("the bytes of stdout in base64, only where they are no valid UTF-8")),
    stderr_base64: Type.Optional(text("the bytes of stderr in base64, only where they are no valid UTF-8")),
    truncated: Type.Optional(Type.Boolean({ description: "whether output was cut" })),
    bytes: Type.Optional(measure("what was copied, where it was a copy")),
    seconds: Type.Optional(measure("how long it took")),
    state: state(["failed"], "set where the command could not be run or watched to its end"),
    ...failure,
  },
  { ...open, description: "what a command did on one host or in one guest" },
);
export type Exit = Static<typeof exitSchema>;

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

export const errorSchema = Type.Object(
  {
    kind: Type.Literal("error"),
    id: id("tool and line"),
    line: count("number of the line, from 1"),
    raw: text("the line as it came, lossily as UTF-8, cut after 4,096 characters"),
    error,
  },
  { ...open, description: "a line that could not be read" },
);
export type ErrorRecord = Static<typeof errorSchema>;

export const reportExamples = {
  copy: [{ kind: "copy", id: "tux", host: "kn1", state: "present", bytes: 21760000 }] as Copy[],
  switch: [
    {
      kind: "switch",
      id: "chi-nyc",
      host: "kn1",
      state: "up",
      bridge: "bq3xk2ydzmfa7",
      ports: 1,
      applied: { delay_ms: false },
    },
  ] as Switch[],
  sample: [
    { kind: "sample", id: "ksm", host: "kn1", time: "2026-11-22T17:00:00Z", saved_mib: 812.4, cpu_s: 3.1 },
  ] as Sample[],
  exit: [
    { kind: "exit", id: "g0", host: "kn1", guest: "g0", code: 0, stdout: "g0\n", stderr: "", seconds: 0.04 },
    {
      kind: "exit",
      id: "kn2",
      host: "kn2",
      seconds: 600.1,
      state: "failed",
      error: {
        by: "mt-tree",
        code: "timeout",
        message: "Cannot run make: no end after 600 s",
        hint: "--timeout S gives it longer",
      },
    },
  ] as Exit[],
  verdict: [
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
  ] as Verdict[],
  error: [
    {
      kind: "error",
      id: "mt-vnet.line-3",
      line: 3,
      raw: '{"kind":"guest","id":"../x"}',
      error: {
        by: "mt-vnet",
        code: "data",
        message: "Cannot read line 3: it is no JSON",
      },
    },
  ] as ErrorRecord[],
};
