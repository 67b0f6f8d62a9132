/** A format that `mt-topo import` reads. */
import type { Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import type { Plan } from "../plan/plan.ts";
import type { Other } from "./other.ts";

/** A file, and what the command line says of the plan that is made of it. */
export interface Source {
  bytes: Buffer;
  /** The same, decoded. */
  text: string;
  /** Of the experiment, where they are given. */
  id?: string;
  seed?: number;
  /** Where neither the command line nor the file names the experiment. */
  fallback: string;
}

export interface Format {
  /** As in messages. */
  title: string;
  /** Of a file's name, in lower case, with the dot. */
  endings: readonly string[];
  /** More would take more memory than a host has. */
  bytes_max?: number;
  /** Whether the first characters of a text are its own: where the ending does not tell. */
  begins(start: string): boolean;
  /** Makes the plan; `note` tells people what was left out. */
  read(source: Source, note: (text: string) => void): Promise<Result<Plan, MtError>>;
  /** Whether a text that was read as another format is in this one. */
  fits?(text: string): boolean;
  /** What a text is instead that could not be read as this; `guess`: what it looks like. */
  instead(text: string, guess: Other | undefined): Other | undefined;
}
