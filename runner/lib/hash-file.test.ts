import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { sha256OfFile } from './hash-file.ts';

test('hash of a file: empty, small, and longer than the buffer', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-hash-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  for (const bytes of [0, 10, (1 << 20) + 7, 3 << 20]) {
    const content = Buffer.alloc(bytes, 'fusegate');
    await writeFile(join(dir, 'file'), content);
    const expected = createHash('sha256').update(content).digest('hex');
    t.is(await sha256OfFile(join(dir, 'file')), expected, `${bytes} bytes`);
  }
  await t.throwsAsync(sha256OfFile(join(dir, 'none')), { code: 'ENOENT' });
});
