import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { kernelContent } from './kernel-content.ts';
import type { KernelImage } from './kernel-image.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-content-'));
test.after.always(() => rm(dir, { recursive: true, force: true }));

/** A minimal ELF file with a text, a note and a bug table. */
function elfOf(text: Buffer, note: Buffer, bugs: Buffer): Buffer {
  const names = '\0.text\0.notes\0__bug_table\0.comment\0.shstrtab\0';
  const parts = [Buffer.alloc(0), text, note, bugs, Buffer.from('gcc'), Buffer.from(names)];
  const kinds = [0, 1, 7, 1, 1, 3];
  const flags = [0, 2, 2, 2, 0, 0];
  const labels = ['', '.text', '.notes', '__bug_table', '.comment', '.shstrtab'];
  const head = Buffer.alloc(64);
  head.write('\x7fELF\x02\x01', 'latin1');
  const offsets = parts.map((_, index) => 64 + Buffer.concat(parts.slice(0, index)).length);
  const body = Buffer.concat(parts);
  head.writeBigUInt64LE(BigInt(64 + body.length), 0x28);
  head.writeUInt16LE(64, 0x3a);
  head.writeUInt16LE(parts.length, 0x3c);
  head.writeUInt16LE(5, 0x3e);
  const table = parts.map((part, index) => {
    const entry = Buffer.alloc(64);
    entry.writeUInt32LE(names.indexOf(labels[index] ?? ''), 0);
    entry.writeUInt32LE(kinds[index] ?? 0, 4);
    entry.writeBigUInt64LE(BigInt(flags[index] ?? 0), 8);
    entry.writeBigUInt64LE(BigInt(offsets[index] ?? 0), 0x18);
    entry.writeBigUInt64LE(BigInt(part.length), 0x20);
    return entry;
  });
  return Buffer.concat([head, body, ...table]);
}

function bug(line: number, flags: number): Buffer {
  const entry = Buffer.alloc(12, 7);
  entry.writeUInt16LE(line, 8);
  entry.writeUInt16LE(flags, 10);
  return entry;
}

async function content(
  elf: Buffer,
  release = '6.12.1',
  config = 'CONFIG_DEBUG_BUGVERBOSE=y\n',
): Promise<string> {
  const image = { vmlinux: join(dir, 'vmlinux'), config: join(dir, 'config'), imageSha256: 'sha', release };
  await writeFile(image.vmlinux, elf);
  await writeFile(image.config, config);
  return kernelContent(image as unknown as KernelImage);
}

const plain = elfOf(Buffer.from('code'), Buffer.from('id 1'), bug(10, 1));

test('content: build ids and line numbers of WARN are no difference', async (t) => {
  t.is(await content(plain), await content(elfOf(Buffer.from('code'), Buffer.from('id 2'), bug(11, 1))));
});

test('content: code, flags of WARN, and what follows them are', async (t) => {
  const base = await content(plain);
  t.not(base, await content(elfOf(Buffer.from('cod3'), Buffer.from('id 1'), bug(10, 1))));
  t.not(base, await content(elfOf(Buffer.from('code'), Buffer.from('id 1'), bug(10, 2))));
});

test('content: where the layout is not known lines count', async (t) => {
  const moved = elfOf(Buffer.from('code'), Buffer.from('id 1'), bug(11, 1));
  t.not(await content(plain, '6.17.0'), await content(moved, '6.17.0'));
  t.not(await content(plain, '6.12.1', ''), await content(moved, '6.12.1', ''));
});

test('content: what is no ELF file is known by its image', async (t) => {
  t.is(await content(Buffer.from('not elf')), 'sha');
});
