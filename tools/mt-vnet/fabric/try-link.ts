/**
 * Whether packets get from one end of a link to the other and back: pings from the router's namespace, answered by
 * the kernel at the other end. Small ones first, then those that fill the MTU.
 */
import { run } from "../../../shared/host/process.ts";
import type { LinkEnd } from "./plan-here.ts";

/** `narrow`: only packets up to `carries` bytes get through. */
export type Tried = { is: "whole" } | { is: "narrow"; carries: number } | { is: "none" };

/** IPv4 and ICMP headers. */
const PING_HEADERS = 28;
const SMALL = 84;
const PAUSE_MS = 200;
/** Attempts for each size in the search for the largest one: one may be lost on a busy machine. */
const ATTEMPTS = 2;

/** @param timeout_s how long the first answer of each size may take: the other end may just be starting */
export async function tryLink(end: LinkEnd, timeout_s: number, signal: AbortSignal): Promise<Tried> {
  if (!(await comesBack(end, SMALL, timeout_s, signal))) return { is: "none" };
  if (await comesBack(end, end.mtu, timeout_s, signal)) return { is: "whole" };
  let [passes, lost] = [SMALL, end.mtu];
  while (lost - passes > 1 && !signal.aborted) {
    const size = Math.floor((passes + lost) / 2);
    let through = false;
    for (let n = 0; n < ATTEMPTS && !through; n++) through = await ping(end.netns, end.peer_ip, size, signal);
    if (through) passes = size;
    else lost = size;
  }
  return { is: "narrow", carries: passes };
}

async function comesBack(
  end: LinkEnd,
  size: number,
  timeout_s: number,
  signal: AbortSignal,
): Promise<boolean> {
  const until = Date.now() + timeout_s * 1000;
  for (;;) {
    if (await ping(end.netns, end.peer_ip, size, signal)) return true;
    if (Date.now() >= until || signal.aborted) return false;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

/** Whether one ping is answered, in a packet of so many bytes, which is no more than the MTU: nothing fragments it. */
export async function ping(
  netns: string | undefined,
  address: string,
  bytes: number,
  signal: AbortSignal,
): Promise<boolean> {
  const words = ["-n", "-q", "-c", "1", "-W", "1", "-s", String(bytes - PING_HEADERS), address];
  const done = await run("ping", words, { netns, signal, timeout_s: 5 });
  return done.isOk() && done.value.code === 0;
}
