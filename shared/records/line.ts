/** A record of any kind, known or not: a JSON object with a kind and an id. */
export interface Line {
  kind: string;
  id: string;
  host?: string;
  hosts?: string[];
  [field: string]: unknown;
}
