/**
 * mt-vnet prove: tries every link between routers that has an end on this host, by real frames over what
 * `mt-vnet up` made, small ones and those that fill the MTU. Where frames get lost, the router and this host's
 * own record fail, with a hint that mends it. Changes nothing.
 */
import { hostOf, runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { type MtError, mtError } from "../../../shared/errors.ts";
import { namespaceInode } from "../../../shared/host/netns.ts";
import { findProgram } from "../../../shared/host/process.ts";
import { limiter } from "../../../shared/limiter.ts";
import type { Host, Router, Segment } from "../../../shared/records/index.ts";
import { fabricHere } from "../fabric/fabrics.ts";
import { type LinkEnd, linkEnds } from "../fabric/plan-here.ts";
import { tryLink } from "../fabric/try-link.ts";
import type { spec } from "../spec.ts";

const LINKS_AT_ONCE = 8;
const HOSTS_NAMED_MAX = 4;

interface Proof {
  ends: LinkEnd[];
  /** The first error of each router. */
  errors: Map<string, MtError>;
}

export const prove: Run<typeof spec, "prove"> = async (invocation) => {
  const timeout_s = invocation.args.timeout;
  const host = hostOf(invocation);
  const fabric = await fabricHere();
  const missing =
    fabric.missing() ??
    findProgram("ping").match<MtError | undefined>(
      () => undefined,
      (error) => error,
    );
  let experiment: string | undefined;
  const segments = new Map<string, Segment>();
  const routers: Router[] = [];
  let proof: Promise<Proof> | undefined;
  /** Tries all links, once, when all records have come. */
  const proven = (signal: AbortSignal) => (proof ??= tryAll(signal));

  const tryAll = async (signal: AbortSignal): Promise<Proof> => {
    const id = experiment ?? "";
    const ends = routers.flatMap((r) => (r.state === "failed" ? [] : linkEnds(id, host, r, segments)));
    const errors = new Map<string, MtError>();
    for (const r of routers) if (r.state === "failed" && r.error) errors.set(r.id, r.error);
    const turn = limiter(LINKS_AT_ONCE);
    const tryEnd = (end: LinkEnd) =>
      turn(async () => {
        if (namespaceInode(end.netns) === undefined) {
          const why = `Cannot try the links of router ${end.router}: its namespace ${end.netns} is not there`;
          errors.set(end.router, mtError("failed", why, "mt-vnet up"));
          return;
        }
        const before = await fabric.received(id, end);
        const tried = await tryLink(end, timeout_s, signal);
        if (tried.is === "whole" || signal.aborted || errors.has(end.router)) return;
        errors.set(end.router, await fabric.whyLost(id, host, end, tried, before, signal));
      });
    // Links on this host first: a bridge that loses frames explains lost frames in its tunnels too.
    await Promise.all(ends.filter((end) => !end.other).map(tryEnd));
    if (errors.size === 0) await Promise.all(ends.filter((end) => end.other).map(tryEnd));
    return { ends, errors };
  };

  return runFilterCommand(invocation, {
    changes: false,
    reads: {
      experiment: (e) => {
        experiment = e.id;
      },
      segment: (s) => {
        segments.set(s.id, s);
      },
    },
    owns: {
      router: (router, context) => {
        routers.push(router);
        if (router.state === "failed") return undefined;
        if (missing) {
          context.note(missing);
          return context.failed(router, missing);
        }
        if (experiment === undefined)
          return context.failed(
            router,
            mtError("data", "Cannot try links: no experiment record came before"),
          );
        return context.atEnd(async () => {
          const error = (await proven(context.signal)).errors.get(router.id);
          return error ? context.failed(router, error) : undefined;
        });
      },
      host: (record, context) =>
        context.atEnd(async () => {
          if (routers.length === 0 || record.state === "failed") return undefined;
          if (missing) return context.failed(record, missing);
          const { ends, errors } = await proven(context.signal);
          const [first] = errors.values();
          if (first) return context.failed({ ...record, frames: "lost" }, first);
          return { ...record, frames: inWords(ends) } as Host;
        }),
    },
  });
};

/** "1450 bytes to kn2, kn4". */
function inWords(ends: readonly LinkEnd[]): string {
  const others = [...new Set(ends.flatMap(({ other }) => other?.host ?? []))].sort();
  const crossing = ends.filter(({ other }) => other !== undefined);
  const mtu = Math.min(...(crossing.length > 0 ? crossing : ends).map((end) => end.mtu));
  if (!Number.isFinite(mtu)) return "no link";
  const named = others.slice(0, HOSTS_NAMED_MAX).join(", ");
  const more = others.length > HOSTS_NAMED_MAX ? ", …" : "";
  return others.length === 0 ? `${mtu} bytes` : `${mtu} bytes to ${named}${more}`;
}
