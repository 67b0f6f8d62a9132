/** A shaper: what gives the ports of a segment its delay, loss and rate, and what mt-vnet needs of one. */
import type { MtError } from "../../../shared/errors.ts";

/** What a segment asks for. */
export interface Shape {
  /** The segment, for messages. */
  id: string;
  /** One way: a frame is delayed where it leaves the segment towards its receiver, and nowhere else. */
  delay_ms?: number;
  /** Share of frames, 0 to 1. */
  loss?: number;
  rate_mbit?: number;
}

export interface ShapedPort {
  /** The host's end of the port. */
  name: string;
  shape: Shape;
  /** Whether it is shaped already, by this plan or an older one. */
  shaped: boolean;
  failed: (why: string) => void;
}

export interface Shaper {
  /** Why no machine can do what is asked for. */
  impossible(shape: Shape): MtError | undefined;
  /** Finds out, once each, whether this machine can do what is asked for. Gives what people should know of it. */
  probe(shapes: readonly Shape[]): Promise<string[]>;
  /** Which of the fields asked for are in force on shaped ports; undefined where none is asked for. */
  applied(shape: Shape): Record<string, boolean> | undefined;
  /** Shapes ports, and takes the shaping away from those whose segments no longer ask for it. */
  apply(ports: readonly ShapedPort[]): Promise<void>;
}
