/** Whether a word of the command line is an experiment's id. */
import { ID_PATTERN } from "../../shared/records/fields.ts";

const pattern = new RegExp(ID_PATTERN);
export const isId = (text: string) => pattern.test(text);
