/** The error of records for other hosts if no tree is up. */
import { type MtError, mtError } from "./errors.ts";

/** @param hosts as it stands in the sentence: `host kn1`, `hosts kn[1-4]` */
export const noTree = (hosts: string): MtError =>
  mtError(
    "lost",
    `Cannot reach ${hosts}: no tree is up here`,
    "mt-tree up, with all hosts of the plan, makes one; then run this again",
  );
