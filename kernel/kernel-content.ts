import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { KernelImage } from './kernel-image.ts';

/**
 * Equal for two kernels that differ in nothing that runs: what is loaded of vmlinux, without the build id and
 * without the line numbers that WARN and BUG would print. A patch that adds a comment changes both, and nothing
 * else. For an image without vmlinux the sha256 of the image.
 */
export async function kernelContent({ vmlinux, config, imageSha256, release }: KernelImage): Promise<string> {
  if (vmlinux === undefined || config === undefined) return imageSha256;
  const [elf, options] = await Promise.all([readFile(vmlinux), readFile(config, 'utf8')]);
  const sections = loadedSections(elf);
  if (sections === undefined) return imageSha256;
  const verbose = /^CONFIG_DEBUG_BUGVERBOSE=y$/mu.test(options);
  const hash = createHash('sha256');
  for (const { name, type, size, contents } of sections) {
    hash.update(`${name} ${type} ${size}\n`);
    hash.update(name === '__bug_table' && verbose ? withoutLines(contents, release) : contents);
  }
  return hash.digest('hex');
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly size: number;
  readonly contents: Buffer;
}

const SHF_ALLOC = 2;
const SHT_NOTE = 7;
const SHT_NOBITS = 8;

/** Sections of a 64-bit little-endian ELF file that are loaded, without notes; `undefined` for another file. */
export function loadedSections(elf: Buffer): readonly Section[] | undefined {
  if (elf.length < 64 || elf.toString('latin1', 0, 6) !== '\x7fELF\x02\x01') return undefined;
  const table = Number(elf.readBigUInt64LE(0x28));
  const [step, count, names] = [elf.readUInt16LE(0x3a), elf.readUInt16LE(0x3c), elf.readUInt16LE(0x3e)];
  if (count === 0 || table + step * count > elf.length) return undefined;
  const at = (index: number) => {
    const head = table + step * index;
    return {
      name: elf.readUInt32LE(head),
      type: elf.readUInt32LE(head + 4),
      flags: Number(elf.readBigUInt64LE(head + 8)),
      offset: Number(elf.readBigUInt64LE(head + 0x18)),
      size: Number(elf.readBigUInt64LE(head + 0x20)),
    };
  };
  const strings = at(names).offset;
  return Array.from({ length: count }, (_, index) => at(index))
    .filter(({ flags, type }) => (flags & SHF_ALLOC) !== 0 && type !== SHT_NOTE)
    .map(({ name, type, offset, size }) => ({
      name: elf.toString('latin1', strings + name, elf.indexOf(0, strings + name)),
      type,
      size,
      contents: type === SHT_NOBITS ? Buffer.alloc(0) : elf.subarray(offset, offset + size),
    }));
}

/** `struct bug_entry` with relative pointers: where, which file, u16 line, u16 flags (include/asm-generic/bug.h). */
const ENTRY = { bytes: 12, line: 8 } as const;

/** Since 6.17 the entry may have another field: there the lines are left alone. */
function withoutLines(table: Buffer, release: string): Buffer {
  const [major = 0, minor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  if (major > 6 || (major === 6 && minor >= 17) || table.length % ENTRY.bytes !== 0) return table;
  const copy = Buffer.from(table);
  for (let at = ENTRY.line; at < copy.length; at += ENTRY.bytes) copy.writeUInt16LE(0, at);
  return copy;
}
