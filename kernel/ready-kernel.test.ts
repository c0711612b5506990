import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { bzImageRelease, readyKernel } from './ready-kernel.ts';

function image(): Buffer {
  const bytes = Buffer.alloc(4096);
  bytes.writeUInt16LE(0xaa55, 0x1fe);
  bytes.write('HdrS', 0x202, 'latin1');
  bytes.writeUInt16LE(0x300, 0x20e);
  bytes.write('6.12.117 (fusegate@fusegate) #1\0', 0x500, 'latin1');
  return bytes;
}

test('ready kernel: the release is in the setup header', (t) => {
  t.is(bzImageRelease(image()), '6.12.117');
});

test('ready kernel: without magic, boot flag or header it is none', (t) => {
  t.is(bzImageRelease(Buffer.alloc(4096)), undefined);
  t.is(bzImageRelease(image().subarray(0, 0x210)), undefined);
  const noMagic = image();
  noMagic.write('XXXX', 0x202, 'latin1');
  t.is(bzImageRelease(noMagic), undefined);
});

test('ready kernel: a version outside the file or missing is called unknown', (t) => {
  const outside = image();
  outside.writeUInt16LE(0xffff, 0x20e);
  t.is(bzImageRelease(outside), 'unknown');
  const none = image();
  none.writeUInt16LE(0, 0x20e);
  t.is(bzImageRelease(none), 'unknown');
});

test('ready kernel: a file is read with its sum', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-ready-'));
  try {
    await writeFile(join(dir, 'bzImage'), image());
    const kernel = await readyKernel(join(dir, 'bzImage'));
    t.is(kernel.release, '6.12.117');
    t.regex(kernel.imageSha256, /^[0-9a-f]{64}$/);
  } finally {
    await rm(dir, { recursive: true });
  }
});
