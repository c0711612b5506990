import { glob, mkdir, mkdtemp, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { pruneVerdicts } from './prune-verdicts.ts';
import { SampleCache, type Circumstances } from './sample-cache.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-prune-verdicts-'));
process.env['FUSEGATE_CACHE'] = dir;
test.after.always(() => rm(dir, { recursive: true, force: true }));

async function age(path: string, hours: number): Promise<void> {
  const usedAt = new Date(Date.now() - hours * 3_600_000);
  await utimes(path, usedAt, usedAt);
}

test.serial('prune: results not used for longest go, also drafts; what may be in use stays', async (t) => {
  await mkdir(join(dir, 'verdicts', 'ab'), { recursive: true });
  const [young, draft, old] = ['1.json', '2.json.4711', '3.json'].map((name) =>
    join(dir, 'verdicts', 'ab', name),
  );
  for (const [path, hours] of [
    [young, 2],
    [draft, 40],
    [old, 30],
  ] as const) {
    await writeFile(path ?? '', '{}');
    await age(path ?? '', hours);
  }
  t.deepEqual(await pruneVerdicts(2), [draft]);
  t.deepEqual(await pruneVerdicts(0), [old], 'two hours ago is in use');
  t.true((await stat(young ?? '')).isFile());
  await rm(join(dir, 'verdicts'), { recursive: true });
  t.deepEqual(await pruneVerdicts(0), [], 'there need not be any');
});

test.serial('prune: a result that is asked for is used', async (t) => {
  const circumstances: Circumstances = {
    ...{ kernel: 'k', rootfs: 'r', daemon: 'd', accelerator: 'tcg', append: '', profile: 'p', suites: 's' },
    ...{ wanted: 'all', times: 1, nth: 0 },
  };
  const cache = new SampleCache(true);
  await cache.store(circumstances, []);
  const [path = ''] = await storedResults();
  await age(path, 1000);
  t.deepEqual(await cache.find(circumstances), []);
  t.deepEqual(await pruneVerdicts(0), []);
  await age(path, 1000);
  t.deepEqual(await pruneVerdicts(0), [path]);
});

async function storedResults(): Promise<readonly string[]> {
  return (await Array.fromAsync(glob('*/*.json', { cwd: join(dir, 'verdicts') }))).map((name) =>
    join(dir, 'verdicts', name),
  );
}
