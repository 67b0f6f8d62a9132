/**
 * What a link runs over: bytes both ways between two nodes that know who the other is. TLS between hosts
 * (tls.ts), a unix socket between a client and the head, a process's stdio inside ssh; the benches
 * and tests join thousands of nodes in one process over wires that are memory and a delay.
 */
import type { Duplex, Readable, Stream, Writable } from "node:stream";
import type { Result } from "neverthrow";
import type { Presence } from "./messages.ts";

/** Where a node of this name takes links. */
export interface Place {
  name: string;
  addr: string;
  port: number;
}

export interface Wire {
  write(bytes: Uint8Array): void;
  /** Sets who hears what comes, and, once, that it is over and why. */
  listen(data: (chunk: Buffer) => void, close: (why: string) => void): void;
  /** Ends it at once; what was written may be lost. */
  close(): void;
}

/** How a node reaches others and is reached; every wire has been authenticated when it is handed over. */
export interface Transport {
  /** Takes wires to this place; `name` is who the other has proved to be. */
  listen(self: Place, accept: (wire: Wire, name: string) => void): Promise<void>;
  /** Gives why not where nobody is there, or the other cannot prove to be `to`, within `timeout_ms`. */
  dial(to: Place, timeout_ms: number): Promise<Result<Wire, string>>;
  /** Whether what a presence says of who may speak for its host is true; absent where every node may speak for all. */
  passHolds?(presence: Presence): boolean;
  /** Where the head reaches hosts, not they it: makes the wires that are missing, and hands them to `accept`. */
  reach?(hosts: Place[]): void;
}

/** A socket as a wire. */
export function socketWire(socket: Duplex & { setNoDelay?(on: boolean): void }): Wire {
  socket.setNoDelay?.(true);
  return streamWire(socket, socket, () => socket.destroy());
}

/**
 * Two streams as a wire, which `end` ends. What the output does not take at once waits here: its own queue would copy
 * it all together first.
 */
export function streamWire(input: Readable, output: Writable, end: () => void): Wire {
  let waiting: Uint8Array[] = [];
  let full = false;
  output.on("drain", () => {
    full = false;
    const queue = waiting;
    let sent = 0;
    while (sent < queue.length && !full) full = !output.write(queue[sent++]!);
    waiting = sent === queue.length ? [] : queue.slice(sent);
  });
  return {
    write(bytes) {
      if (full) waiting.push(bytes);
      else full = !output.write(bytes);
    },
    listen(data, close) {
      let over = false;
      const finish = (why: string) => {
        if (over) return;
        over = true;
        end();
        close(why);
      };
      input.on("data", data);
      input.on("error", (e) => finish(e.message));
      if (output !== (input as Stream)) output.on("error", (e) => finish(e.message));
      input.on("end", () => finish("it closed the connection"));
      input.on("close", () => finish("the connection closed"));
    },
    close: end,
  };
}
