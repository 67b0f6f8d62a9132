/** Which hosts a client knows to be there: the head's list, and every change that the head has announced since. */
import { type MtError, mtError } from "../../../shared/errors.ts";
import type { HostStatus, Message } from "../link/messages.ts";

interface KnownHost {
  /** `moving`: its link was lost, and it may join another ancestor before it counts as gone. */
  state: "there" | "moving" | "gone";
  /** Since when it is there, or missing. */
  since: string;
  /** Of its agent: one that was started later knows nothing of our sessions. */
  epoch: string | undefined;
}

export class KnownHosts {
  readonly #hosts = new Map<string, KnownHost>();
  /** Why there is no head any more. */
  headLost: string | undefined;

  list(hosts: readonly HostStatus[]): void {
    this.#hosts.clear();
    for (const { host, present, moving, since, epoch } of hosts)
      this.#hosts.set(host, { state: present ? "there" : moving ? "moving" : "gone", since, epoch });
  }

  change(message: Extract<Message, { type: "joined" | "lost" }>): void {
    const { host } = message;
    if (message.type === "joined")
      this.#hosts.set(host, { state: "there", since: new Date().toISOString(), epoch: message.epoch });
    else this.#hosts.set(host, { state: "gone", since: message.since, epoch: this.epochOf(host) });
  }

  epochOf(host: string): string | undefined {
    return this.#hosts.get(host)?.epoch;
  }

  /** Why nothing can be run on a host; undefined where it is there, or may join again. */
  absent(host: string): MtError | undefined {
    if (this.headLost !== undefined)
      return mtError(
        "lost",
        `Cannot reach host ${host}: ${this.headLost}`,
        "mt-tree up mends it; then run it again",
      );
    const known = this.#hosts.get(host);
    if (!known)
      return mtError(
        "lost",
        `Cannot reach host ${host}: it is not in the tree`,
        "mt-tree status lists the hosts",
      );
    if (known.state !== "gone") return undefined;
    return mtError(
      "lost",
      `Cannot reach host ${host}: it is gone since ${known.since}`,
      "mt-tree up brings it back; then run it again",
    );
  }
}
