import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { pruneRootfs } from './prune-rootfs.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-prune-rootfs-'));
process.env['FUSEGATE_CACHE'] = dir;
test.after.always(() => rm(dir, { recursive: true, force: true }));

async function image(digit: string, hoursAgo: number): Promise<string> {
  const name = digit.repeat(32);
  await mkdir(join(dir, 'rootfs', name), { recursive: true });
  const entry = join(dir, 'rootfs', name, 'entry.json');
  await writeFile(entry, '{}');
  const usedAt = new Date(Date.now() - hoursAgo * 3_600_000);
  await utimes(entry, usedAt, usedAt);
  return name;
}

test('prune: guest images not used for longest go; recent ones and what is not an image stay', async (t) => {
  const kept = [await image('a', 0.1), await image('b', 1), await image('c', 30)];
  const old = await image('d', 31);
  await mkdir(join(dir, 'rootfs', 'somebody'), { recursive: true });
  t.deepEqual(await pruneRootfs(3), [join(dir, 'rootfs', old)]);
  t.deepEqual((await readdir(join(dir, 'rootfs'))).toSorted(), [...kept, 'somebody']);
  t.deepEqual(await pruneRootfs(1), [join(dir, 'rootfs', kept[2] ?? '')], 'used an hour ago: in use');
});
