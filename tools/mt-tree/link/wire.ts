/**
 * What a link runs over: bytes both ways between two nodes that have authenticated each other. TLS between hosts
 * (tls.ts), a unix socket between a client and the head, a process's stdio inside ssh. Tests and benches connect
 * thousands of nodes in one process through memory with a delay (test/support/memory-net.ts).
 */
import type { Duplex, Readable, Stream, Writable } from "node:stream";
import type { Result } from "neverthrow";
import type { Presence } from "./messages.ts";

/** The address at which a node listens. */
export interface Place {
  name: string;
  addr: string;
  port: number;
}

export interface Wire {
  write(bytes: Uint8Array): void;
  /** Sets who gets what comes; `close` is called once, with the reason, when the wire has ended. */
  listen(data: (chunk: Buffer) => void, close: (why: string) => void): void;
  /** Ends the wire at once; what was written may be lost. */
  close(): void;
}

/** How a node connects to others and takes connections; a wire is authenticated before it is handed over. */
export interface Transport {
  /** Listens at this place; `name` is who the other end has proved to be. */
  listen(self: Place, accept: (wire: Wire, name: string) => void): Promise<void>;
  /** Connects; the error says why it could not, or that the other end has not proved to be `to` within `timeout_ms`. */
  dial(to: Place, timeout_ms: number): Promise<Result<Wire, string>>;
  /** Whether the pass in a presence is signed by the authority; absent where every node may speak for all hosts. */
  passHolds?(presence: Presence): boolean;
  /** Where the head connects to hosts: connects to those that are missing, and hands the wires to `accept`. */
  reach?(hosts: Place[]): void;
}

/** A socket as a wire. */
export function socketWire(socket: Duplex & { setNoDelay?(on: boolean): void }): Wire {
  socket.setNoDelay?.(true);
  return streamWire(socket, socket, () => socket.destroy());
}

/**
 * Two streams as a wire; `end` ends both. What the output does not take at once is queued here: the stream's own queue
 * would first copy all of it into one buffer.
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
