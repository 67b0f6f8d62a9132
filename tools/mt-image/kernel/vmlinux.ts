/**
 * Takes the kernel proper (vmlinux) out of a bzImage. QEMU enters it directly (PVH), so that the
 * guest does not spend its first emulated second on unpacking itself.
 * Reads: a bzImage with an LZ4 payload, boot protocol 2.08 or later.  Writes: nothing.
 * Source: the kernel's Documentation/x86/boot.rst and lz4's lz4_Block_format.md.
 */
import { err, ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { imageError } from "../errors.ts";

const LZ4_LEGACY_MAGIC = 0x184c2102;
/** Unpacked size of the blocks of a legacy frame, but for the last. */
const LZ4_LEGACY_BLOCK_BYTES = 8 * 1024 * 1024;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
const PT_NOTE = 4;

/** The ELF kernel in a bzImage. An error says why QEMU could not enter it directly. */
export function extractVmlinux(bz_image: Buffer): Result<Buffer, MtError> {
  const action = "extract vmlinux";
  if (bz_image.length < 0x250 || bz_image.toString("latin1", 0x202, 0x206) !== "HdrS") {
    return err(imageError("unavailable", action, "the kernel is no bzImage"));
  }
  const setup_sectors = bz_image[0x1f1] || 4;
  const start = (setup_sectors + 1) * 512 + bz_image.readUInt32LE(0x248);
  const payload = bz_image.subarray(start, start + bz_image.readUInt32LE(0x24c));
  if (payload.length < 8 || payload.readUInt32LE(0) !== LZ4_LEGACY_MAGIC) {
    return err(imageError("unavailable", action, "the kernel is not packed with LZ4"));
  }
  let elf: Buffer;
  try {
    elf = unpackLz4Legacy(payload);
  } catch (error) {
    return err(imageError("unavailable", action, error));
  }
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46) {
    return err(imageError("unavailable", action, "the payload is no ELF file"));
  }
  if (!hasPvhEntry(elf)) return err(imageError("unavailable", action, "the kernel has no PVH entry point"));
  return ok(elf);
}

function unpackLz4Legacy(frame: Buffer): Buffer {
  // The kernel build appends the unpacked size to the payload.
  const out = Buffer.alloc(frame.readUInt32LE(frame.length - 4));
  let out_at = 0;
  let at = 4;
  while (at + 4 <= frame.length - 4) {
    const block_bytes = frame.readUInt32LE(at);
    at += 4;
    out_at = unpackLz4Block(frame.subarray(at, at + block_bytes), out, out_at);
    at += block_bytes;
    if (out_at % LZ4_LEGACY_BLOCK_BYTES !== 0) break;
  }
  if (out_at !== out.length) throw new Error(`unpacked ${out_at} of ${out.length} bytes`);
  return out;
}

function unpackLz4Block(block: Buffer, out: Buffer, out_start: number): number {
  let at = 0;
  let out_at = out_start;
  const readLength = (nibble: number): number => {
    let length = nibble;
    if (nibble !== 15) return length;
    for (;;) {
      const more = block[at++];
      if (more === undefined) throw new Error("LZ4 block cut off");
      length += more;
      if (more !== 255) return length;
    }
  };
  while (at < block.length) {
    const token = block[at++]!;
    const literals = readLength(token >> 4);
    if (out_at + literals > out.length) throw new Error("LZ4 block too long");
    block.copy(out, out_at, at, at + literals);
    at += literals;
    out_at += literals;
    // The last sequence of a block has no match.
    if (at >= block.length) break;
    const distance = block.readUInt16LE(at);
    at += 2;
    const length = readLength(token & 15) + 4;
    const from = out_at - distance;
    if (distance === 0 || from < 0 || out_at + length > out.length) throw new Error("LZ4 match out of range");
    if (distance >= length) out.copyWithin(out_at, from, from + length);
    else for (let index = 0; index < length; index++) out[out_at + index] = out[from + index]!;
    out_at += length;
  }
  return out_at;
}

function hasPvhEntry(elf: Buffer): boolean {
  const headers_at = Number(elf.readBigUInt64LE(32));
  const header_bytes = elf.readUInt16LE(54);
  const count = elf.readUInt16LE(56);
  for (let index = 0; index < count; index++) {
    const header = headers_at + index * header_bytes;
    if (elf.readUInt32LE(header) !== PT_NOTE) continue;
    let at = Number(elf.readBigUInt64LE(header + 8));
    const end = at + Number(elf.readBigUInt64LE(header + 32));
    while (at + 12 <= end) {
      const name_bytes = elf.readUInt32LE(at);
      const desc_bytes = elf.readUInt32LE(at + 4);
      if (
        elf.readUInt32LE(at + 8) === XEN_ELFNOTE_PHYS32_ENTRY &&
        elf.toString("latin1", at + 12, at + 15) === "Xen"
      )
        return true;
      at += 12 + align4(name_bytes) + align4(desc_bytes);
    }
  }
  return false;
}

function align4(bytes: number): number {
  return (bytes + 3) & ~3;
}
