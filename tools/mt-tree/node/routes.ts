/**
 * Which link leads to which host. Where several links announce the same host, the last one counts; the others are kept,
 * and count again when that one is gone. So an intruder with a host's key, or a second agent of a host, gets the host's
 * messages only while it is connected itself.
 */
import type { Presence } from "../link/messages.ts";

export interface Route<L> {
  presence: Presence;
  link: L;
}

export class Routes<L> {
  readonly #now = new Map<string, Route<L>>();
  /** By host: what other links have announced, one a link; the last in the list counts next. */
  readonly #behind = new Map<string, Route<L>[]>();

  get(host: string): Route<L> | undefined {
    return this.#now.get(host);
  }

  has(host: string): boolean {
    return this.#now.has(host);
  }

  hosts(): IterableIterator<string> {
    return this.#now.keys();
  }

  all(): IterableIterator<Route<L>> {
    return this.#now.values();
  }

  /** A link announces a host. Gives whether this route counts now, and which one counted before. */
  tell(presence: Presence, link: L): { taken: boolean; displaced?: Route<L> } {
    const { host } = presence;
    const now = this.#now.get(host);
    // This is about an older link of the same agent, and came late.
    if (now && now.presence.epoch === presence.epoch && now.presence.join > presence.join) {
      if (now.link !== link) this.#keep({ presence, link }, 0);
      return { taken: false };
    }
    this.#forget(host, link);
    this.#now.set(host, { presence, link });
    if (!now || now.link === link) return { taken: true };
    this.#keep(now, this.#behind.get(host)?.length ?? 0);
    return { taken: true, displaced: now };
  }

  /** A link withdraws what it announced. Gives the route that counted until now, and what counts instead. */
  untell(presence: Presence, link: L): { gone: Presence; instead?: Route<L> } | undefined {
    const { host, epoch, join } = presence;
    const is = (r: Route<L>) => r.link === link && r.presence.epoch === epoch && r.presence.join <= join;
    const now = this.#now.get(host);
    if (!now || !is(now)) {
      this.#forget(host, link, is);
      return undefined;
    }
    const behind = this.#behind.get(host);
    const instead = behind?.pop();
    if (behind?.length === 0) this.#behind.delete(host);
    if (instead) this.#now.set(host, instead);
    else this.#now.delete(host);
    return { gone: now.presence, instead };
  }

  /** A link has ended. Gives what it had announced and counts, to be withdrawn one by one. */
  over(link: L): Presence[] {
    for (const host of this.#behind.keys()) this.#forget(host, link);
    return [...this.#now.values()].flatMap((r) => (r.link === link ? [r.presence] : []));
  }

  #keep(route: Route<L>, at: number): void {
    const { host } = route.presence;
    this.#forget(host, route.link);
    const behind = this.#behind.get(host);
    if (behind) behind.splice(at, 0, route);
    else this.#behind.set(host, [route]);
  }

  #forget(host: string, link: L, which: (r: Route<L>) => boolean = () => true): void {
    const behind = this.#behind.get(host);
    if (!behind) return;
    const left = behind.filter((r) => r.link !== link || !which(r));
    if (left.length > 0) this.#behind.set(host, left);
    else this.#behind.delete(host);
  }
}
