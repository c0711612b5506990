import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { cleanCache, pruneCache } from './prune.ts';
import { acquireLock } from '#runner/lib/file-lock.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-prune-'));
process.env['FUSEGATE_CACHE'] = dir;
test.after.always(() => rm(dir, { recursive: true, force: true }));
const { signal } = new AbortController();

/** Content keys, told apart by what they end with. */
const key = (name: string): string => Buffer.from(name).toString('hex').padStart(64, '0');

async function put(area: string, name: string, witness: string, ageHours: number): Promise<void> {
  await mkdir(join(dir, area, name), { recursive: true });
  const usedAt = new Date(Date.now() - ageHours * 3_600_000);
  if (witness !== '.') await writeFile(join(dir, area, name, witness), '{}');
  await utimes(join(dir, area, name, witness), usedAt, usedAt);
}

test.serial('prune: the longest unused go, what is locked or in use stays', async (t) => {
  for (const [name, age] of [
    [key('new'), 1],
    [key('old'), 50],
    [key('busy'), 60],
  ] as const) {
    await put('kernels', name, 'entry.json', age);
    await put('build', name, 'state.json', age);
  }
  await put('sources', key('fresh'), '.', 0.1);
  await put('sources', key('stale'), '.', 48);
  await put('sources', 'somebody-elses', '.', 480);
  await using _held = await acquireLock(join(dir, 'locks', `build-${key('busy')}`), { signal });
  const deleted = await pruneCache(signal, { kernels: 1, buildTrees: 1, sources: 0 });
  t.deepEqual((await readdir(join(dir, 'kernels'))).toSorted(), [key('new')]);
  t.deepEqual((await readdir(join(dir, 'build'))).toSorted(), [key('new'), key('busy')].toSorted());
  t.deepEqual((await readdir(join(dir, 'sources'))).toSorted(), [key('fresh'), 'somebody-elses']);
  t.is(deleted.length, 4);
});

test.serial('prune: clean takes all of the kernel part and nothing else', async (t) => {
  await mkdir(join(dir, 'images'), { recursive: true });
  const deleted = await cleanCache();
  t.true(deleted.includes(join(dir, 'kernels')));
  t.deepEqual(await readdir(dir), ['images']);
  t.false(existsSync(join(dir, 'locks')));
});
