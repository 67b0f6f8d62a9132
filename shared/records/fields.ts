/** Fields that several kinds have. Units are in the names. */
import { Type } from "@sinclair/typebox";
import { ERROR_CODES } from "../errors.ts";

/** One name: letters, digits, `.`, `_`, `-`, 40 at most, not beginning with `.` or `-`. */
export const ID_PATTERN = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,39}$";
/** The name of a host: up to 255 characters, as its cloud gave it. */
export const HOST_PATTERN = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$";
/** A name or a range of them: `g[0-226]`. */
export const RANGE_PATTERN =
  "^(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,39}|(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,38})?\\[[0-9,-]{1,4000}\\][A-Za-z0-9._-]{0,39})$";
/** A host, or a guest or a range of them. */
export const HOST_OR_RANGE_PATTERN = `${HOST_PATTERN}|${RANGE_PATTERN}`;
const OCTET = "(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)";
export const IP_PATTERN = `^${OCTET}(?:\\.${OCTET}){3}$`;
export const CIDR_PATTERN = `^${OCTET}(?:\\.${OCTET}){3}/(?:3[0-2]|[12]?\\d)$`;

export const id = (description: string) => Type.String({ pattern: ID_PATTERN, maxLength: 40, description });
export const hostId = (description: string) =>
  Type.String({ pattern: HOST_PATTERN, maxLength: 255, description });
export const hostOrRange = (description: string) =>
  Type.String({ pattern: HOST_OR_RANGE_PATTERN, description });
export const range = (description: string) => Type.String({ pattern: RANGE_PATTERN, description });
export const ip = (description: string) => Type.String({ pattern: IP_PATTERN, description });
export const cidr = (description: string) => Type.String({ pattern: CIDR_PATTERN, description });
export const sha256 = (description: string) => Type.String({ pattern: "^sha256:[0-9a-f]{64}$", description });
export const count = (description: string) => Type.Integer({ minimum: 0, maximum: 4294967295, description });
export const positive = (description: string) =>
  Type.Integer({ minimum: 1, maximum: 4294967295, description });
export const measure = (description: string) => Type.Number({ minimum: 0, description });
export const text = (description: string) => Type.String({ description });
export const time = (description: string) => Type.String({ description: `${description} (UTC, RFC 3339)` });
/** The size that every IPv4 host must accept (RFC 791); the largest MTU of a tap. */
export const MTU_MIN = 576;
const MTU_MAX = 65_521;
export const segmentMtu = (description: string) =>
  Type.Integer({ minimum: MTU_MIN, maximum: MTU_MAX, description });

export const error = Type.Object(
  {
    by: Type.Optional(text("the tool that says so")),
    code: Type.Union(
      ERROR_CODES.map((c) => Type.Literal(c)),
      { description: "what sort of failure; the tools' exit codes by name" },
    ),
    message: text("Cannot <verb> <object>: <state>"),
    hint: Type.Optional(text("what to do about it")),
  },
  { description: "why the record failed; the first tool that failed it says so" },
);

export const host = Type.Optional(hostId("the host that the record goes to and comes back from"));
/** `host` of a report, which says what it is about: the record itself is sent to no host. */
export const subjectHost = Type.Optional(hostId("the host that it is about"));
export const hosts = Type.Optional(
  Type.Array(hostId("a host"), { description: "the hosts that the record is context for; absent: all" }),
);
export const failure = { error: Type.Optional(error) };
export const state = (states: readonly string[], description: string) =>
  Type.Optional(
    Type.Union(
      states.map((s) => Type.Literal(s)),
      { description },
    ),
  );
export const open = { additionalProperties: true } as const;
