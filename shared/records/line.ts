/** A line that is a JSON object with a kind and an id; kinds that nobody here knows are passed on. */
export interface Line {
  kind: string;
  id: string;
  host?: string;
  hosts?: string[];
  [field: string]: unknown;
}
