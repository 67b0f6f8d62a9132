/** All commands that run on a host for clients, by session, and the reducers over what they put out. */
import type { DownMessage, UpMessage } from "../link/messages.ts";
import type { Launch } from "../node/command.ts";
import { HostSession, type SendUp } from "./host-session.ts";
import { ReducerTable, type SendDown } from "./reducer-table.ts";

export class HostSessions {
  readonly #sessions = new Map<string, HostSession>();
  readonly #host: string;
  readonly #launch: Launch;
  readonly #send: SendUp;
  readonly #reducers: ReducerTable;

  constructor(host: string, launch: Launch, send: SendUp, sendDown: SendDown) {
    this.#host = host;
    this.#launch = launch;
    this.#send = send;
    this.#reducers = new ReducerTable(host, launch, send, sendDown);
  }

  handle(message: DownMessage, payload: Buffer): void {
    switch (message.type) {
      case "alive":
        return this.#closeAllBut(message.sessions);
      case "forget":
        for (const id of message.sessions) if (this.#sessions.get(id)?.ended) this.#close(id);
        return;
      case "run":
        return this.#run(message);
      case "reduce":
        return this.#reducers.begin(message, this.#sessions.get(message.session)?.spool);
      case "pull_reduced":
        return this.#reducers.pull(message);
      case "close":
        this.#reducers.close(message.session);
        return this.#close(message.session);
    }
    const session = this.#sessions.get(message.session);
    switch (message.type) {
      case "sync":
        if (session) return session.sync(message.offset);
        return this.#send({
          ...{ type: "synced", session: message.session, host: this.#host },
          known: false,
          offset: 0,
        });
      case "stdin":
        return session?.input(message.offset, payload);
      case "stdin_end":
        return session?.endInput(message.offset);
      case "output_ack":
        return session?.outputAcknowledged(message.offset);
      case "kill":
        return session?.kill(message.signal);
    }
  }

  /** A part of what a reducer on a host below has put out. */
  reduced(message: Extract<UpMessage, { type: "reduced" }>, payload: Buffer): void {
    this.#reducers.reduced(message, payload);
  }

  /** Nobody can hear from this host any more: nothing goes on running. */
  closeAll(): void {
    this.#closeAllBut([]);
  }

  #closeAllBut(wanted: readonly string[]): void {
    const kept = new Set(wanted);
    this.#reducers.closeAllBut(kept);
    for (const id of this.#sessions.keys()) if (!kept.has(id)) this.#close(id);
  }

  #run(message: Extract<DownMessage, { type: "run" }>): void {
    // The message may come twice, over different links; the command is started once.
    if (this.#sessions.has(message.session)) return;
    const session = new HostSession(this.#host, message, this.#launch, this.#send);
    this.#sessions.set(message.session, session);
  }

  #close(id: string): void {
    const session = this.#sessions.get(id);
    this.#sessions.delete(id);
    session?.close();
  }
}
