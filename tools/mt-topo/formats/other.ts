/**
 * What a file is: bytes as text, whatever their coding, unpacked where they are gzip; and for what is no topology
 * that we read, the name of what it is instead and what to do about it.
 */
import { gunzipSync } from "node:zlib";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";

/** Larger files are no plan. */
export const FILE_BYTES_MAX = 2 ** 30;
const SAMPLE = 4096;

export interface Other {
  what: string;
  hint: string;
}

const SAVE_AS_GML = "save it as GML: networkx, igraph, yEd and Gephi do";
const unpack = (program: string) => `${program} FILE | mt-topo import -`;

const MAGIC: readonly [hex: string, what: string, hint: string][] = [
  ["504b0304", "a zip archive", unpack("unzip -p")],
  ["504b0506", "an empty zip archive", SAVE_AS_GML],
  ["425a68", "compressed with bzip2", unpack("bzip2 -dc")],
  ["fd377a585a00", "compressed with xz", unpack("xz -dc")],
  ["28b52ffd", "compressed with zstd", unpack("zstd -dc")],
  ["377abcaf271c", "a 7-Zip archive", unpack("7z x -so")],
  ["255044462d", "a PDF document", "the file that it was drawn from, as GML"],
  ["89504e47", "a PNG picture", "the file that it was drawn from, as GML"],
  ["ffd8ff", "a JPEG picture", "the file that it was drawn from, as GML"],
  ["474946383", "a GIF picture", "the file that it was drawn from, as GML"],
  ["7f454c46", "a program", SAVE_AS_GML],
  ["53514c69746520666f726d6174", "an SQLite database", SAVE_AS_GML],
  ["fffe0000", "text in UTF-32", "iconv -f UTF-32 -t UTF-8 FILE | mt-topo import -"],
  ["0000feff", "text in UTF-32", "iconv -f UTF-32 -t UTF-8 FILE | mt-topo import -"],
];

const isGzip = (bytes: Uint8Array) => bytes[0] === 0x1f && bytes[1] === 0x8b;

type Utf16 = "little" | "big" | undefined;

/** By its mark, or by the zeros that it makes of ASCII, with which all our formats begin. */
function utf16In(bytes: Uint8Array): Utf16 {
  const [a, b, c, d] = bytes;
  if (a === 0xff && b === 0xfe) return "little";
  if (a === 0xfe && b === 0xff) return "big";
  if (bytes.length < 4) return undefined;
  if (a !== 0 && b === 0 && c !== 0 && d === 0) return "little";
  return a === 0 && b !== 0 && c === 0 && d !== 0 ? "big" : undefined;
}

/** What the first bytes tell that can be no text: so that nobody reads a device to its end. */
export function binaryIn(first: Buffer): Other | undefined {
  const hex = first.subarray(0, 16).toString("hex");
  const magic = MAGIC.find(([begin]) => hex.startsWith(begin));
  if (magic) return { what: magic[1], hint: magic[2] };
  if (isGzip(first) || utf16In(first)) return undefined;
  return first.subarray(0, SAMPLE).includes(0)
    ? { what: "no text: it has bytes of 0", hint: SAVE_AS_GML }
    : undefined;
}

/** Unpacked where they were packed. */
export function unpacked(bytes: Buffer, source: string): Result<Buffer, MtError> {
  if (!isGzip(bytes)) return ok(bytes);
  try {
    return ok(gunzipSync(bytes, { maxOutputLength: FILE_BYTES_MAX }));
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    return fail(
      "data",
      `Cannot read ${source}: ${code === "ERR_BUFFER_TOO_LARGE" ? tooLarge(FILE_BYTES_MAX) : "it is gzip, and cut off or damaged"}`,
      code === "ERR_BUFFER_TOO_LARGE"
        ? SAVE_AS_GML
        : "fetch it again: gzip -t FILE tells whether it is whole",
    );
  }
}

export const tooLarge = (bytes: number) => `it has more than ${bytes / 2 ** 20} MiB`;

/** Bytes as text: by their mark, UTF-16 by its zeros, UTF-8 where they are, else Latin-1, which GML's standard names. */
export function decodeText(bytes: Buffer): string {
  const utf16 = utf16In(bytes);
  if (utf16) {
    const even = bytes.subarray(0, bytes.length - (bytes.length % 2));
    const text = (utf16 === "big" ? Buffer.from(even).swap16() : even).toString("utf16le");
    return text.replace(/^\uFEFF/, "");
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return bytes.toString("latin1");
  }
}

const GRAPHML =
  "python3 -c 'import sys, networkx as n; n.write_gml(n.read_graphml(sys.stdin.buffer), sys.stdout.buffer)' <FILE | mt-topo import -";

/** What a text is that could not be read as GML or JSON lines; undefined where nothing tells. */
export function otherIn(text: string): Other | undefined {
  const begin = text.slice(0, SAMPLE).replace(/^[\s\uFEFF]+/, "");
  if (text.trim() === "") return { what: "empty", hint: "a GML file, or a plan as JSON lines" };
  if (begin.startsWith("<")) return markupIn(begin);
  if (begin.startsWith("["))
    return jsonIn(text) ?? { what: "no GML: GML begins with a key", hint: SAVE_AS_GML };
  if (begin.startsWith("{")) return jsonIn(text);
  if (/^(?:(?:\/\/|#)[^\n]*\n\s*|\/\*[\s\S]*?\*\/\s*)*(?:strict\s+)?(?:di)?graph\b[^[{]*\{/i.test(begin))
    return { what: "a graph in DOT, the language of Graphviz", hint: "gv2gml FILE | mt-topo import -" };
  if (/^version https:\/\/git-lfs/.test(begin))
    return { what: "a pointer of Git LFS, not the file itself", hint: "git lfs pull" };
  if (/^\*(?:vertices|network|arcs|edges)\b/i.test(begin))
    return { what: "a graph of Pajek", hint: SAVE_AS_GML };
  if (/^(?:nodedef|edgedef)>/i.test(begin)) return { what: "a graph in GDF", hint: SAVE_AS_GML };
  if (/^dl\s+n\s*=/i.test(begin)) return { what: "a graph of UCINET", hint: SAVE_AS_GML };
  const plain = begin.replace(/^(?:(?:---|#)[^\r\n]*[\r\n]\s*)+/, "");
  if (/^[\w-]+:(?:\s|$)/.test(plain)) return { what: "YAML", hint: SAVE_AS_GML };
  return isTable(begin) ? { what: "a list of edges or a table", hint: SAVE_AS_GML } : undefined;
}

/** Lines of as many words or numbers each. */
function isTable(begin: string): boolean {
  const lines = begin.split(/\r\n?|\n/).filter((line) => line.trim() !== "" && !/^\s*[#%]/.test(line));
  if (lines.length < 2 || /^\s*graph\b/im.test(begin)) return false;
  const columns = lines.slice(0, 10).map((line) => line.trim().split(/\s*[,;|\t]\s*|\s+/));
  return columns.every(
    (row) =>
      row.length > 1 && row.length === columns[0]!.length && row.every((word) => /^"?[\w.:-]+"?$/.test(word)),
  );
}

function markupIn(begin: string): Other {
  const root = /<(?![?!])(?:[\w-]+:)?([\w-]+)/.exec(begin)?.[1]?.toLowerCase();
  if (root === "graphml") return { what: "GraphML", hint: GRAPHML };
  if (root === "gexf") return { what: "GEXF, the format of Gephi", hint: SAVE_AS_GML };
  if (root === "html" || /^<!doctype html/i.test(begin) || root === "head" || root === "body")
    return {
      what: "a page of HTML",
      hint: "was it saved where a login or an error was shown? Fetch the file itself",
    };
  if (root === "svg") return { what: "an SVG picture", hint: "the file that it was drawn from, as GML" };
  return { what: `XML${root === undefined ? "" : ` (<${root.slice(0, 40)}>)`}`, hint: SAVE_AS_GML };
}

/** JSON that is no lines of records. */
function jsonIn(text: string): Other | undefined {
  const [first = ""] = text.replace(/^[\s\uFEFF]+/, "").split(/\r\n?|\n/, 1);
  const parsed = (json: string): unknown => {
    try {
      return JSON.parse(json);
    } catch {
      return undefined;
    }
  };
  const line = parsed(first);
  if (typeof line === "object" && line !== null && !Array.isArray(line) && "kind" in line)
    return { what: "JSON lines", hint: "--format native" };
  const whole = parsed(text.replace(/^\uFEFF/, ""));
  if (whole === undefined || typeof whole !== "object" || whole === null) return undefined;
  if ("nodes" in whole || "elements" in whole || "graph" in whole)
    return { what: "a graph as one JSON document", hint: SAVE_AS_GML };
  return { what: "one JSON document, not lines of records", hint: "jq -c '.[]' FILE makes lines of a list" };
}
