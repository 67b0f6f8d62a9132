/**
 * Reads what an image build must know of ELF files: the shared libraries a program needs,
 * and the dependencies of a kernel module.
 * Reads: 64-bit little-endian ELF files in memory.  Writes: nothing.
 */

const SHT_DYNAMIC = 6;
const DT_NEEDED = 1n;

interface Section {
  type: number;
  name: string;
  offset: number;
  size: number;
  link: number;
}

/** The sonames in the DT_NEEDED entries of a program or shared library; empty if it is static. */
export function neededLibraries(elf: Buffer): string[] {
  const sections = readSections(elf);
  const dynamic = sections.find((section) => section.type === SHT_DYNAMIC);
  if (dynamic === undefined) return [];
  const strings = sections[dynamic.link];
  if (strings === undefined) return [];
  const needed: string[] = [];
  for (let at = dynamic.offset; at + 16 <= dynamic.offset + dynamic.size; at += 16) {
    if (elf.readBigInt64LE(at) === DT_NEEDED) {
      needed.push(cString(elf, strings.offset + Number(elf.readBigUInt64LE(at + 8))));
    }
  }
  return needed;
}

/** The modules that must be loaded before this one, from its .modinfo section. */
export function moduleDepends(elf: Buffer): string[] {
  const modinfo = readSections(elf).find((section) => section.name === ".modinfo");
  if (modinfo === undefined) return [];
  const entries = elf.toString("latin1", modinfo.offset, modinfo.offset + modinfo.size).split("\0");
  const depends = entries.find((entry) => entry.startsWith("depends="))?.slice("depends=".length) ?? "";
  return depends.split(",").filter((name) => name !== "");
}

function readSections(elf: Buffer): Section[] {
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1) return [];
  const table = Number(elf.readBigUInt64LE(40));
  const entry_bytes = elf.readUInt16LE(58);
  const count = elf.readUInt16LE(60);
  const names_index = elf.readUInt16LE(62);
  const headers = Array.from({ length: count }, (_, index) => table + index * entry_bytes);
  if (count === 0) return [];
  const names_offset = Number(elf.readBigUInt64LE((headers[names_index] ?? 0) + 24));
  return headers.map((at) => ({
    name: cString(elf, names_offset + elf.readUInt32LE(at)),
    type: elf.readUInt32LE(at + 4),
    offset: Number(elf.readBigUInt64LE(at + 24)),
    size: Number(elf.readBigUInt64LE(at + 32)),
    link: elf.readUInt32LE(at + 40),
  }));
}

function cString(bytes: Buffer, start: number): string {
  return bytes.toString("latin1", start, bytes.indexOf(0, start));
}
