import { readdir } from 'node:fs/promises';
import { exec } from '#runner/lib/exec.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { isRunAlive, readRunRecord } from '#runner/lib/run-record.ts';
import type { Diagnosis } from './diagnosis.ts';

/** What the cache holds, and records of runs whose program is gone. */
export async function diagnoseCache(): Promise<readonly Diagnosis[]> {
  const areas = await entriesOf(cacheDir());
  const common = { name: 'cache', neededFor: 'second runs' };
  if (areas.length === 0) {
    return [{ ...common, state: 'ok', detail: `${cacheDir()} is empty: the first run builds everything` }];
  }
  const sizes = await Promise.all(
    areas.map(async (area) => ({ area, size: await kibibytesOf(cacheDir(area)) })),
  );
  const large = sizes.filter(({ size }) => size >= 1024);
  return [
    {
      ...common,
      state: 'ok',
      detail: `${cacheDir()}: ${large.map(({ area, size }) => `${area} ${mebibytes(size)}`).join(', ')}`,
    },
    ...(await diagnoseRuns()),
  ];
}

async function diagnoseRuns(): Promise<readonly Diagnosis[]> {
  const stale: string[] = [];
  for (const run of await entriesOf(cacheDir('runs'))) {
    const record = await readRunRecord(cacheDir('runs', run));
    // Without a record a run is in its first instants, or died in them and has left nothing else.
    if (record !== undefined && !(await isRunAlive(record))) stale.push(run);
  }
  if (stale.length === 0) return [];
  return [
    {
      name: 'runs',
      state: 'warning',
      detail: `${stale.length} ended without cleaning up: ${stale.slice(0, 5).join(', ')}`,
      neededFor: 'disk space',
      remedy: 'the next run sweeps them; make clean does it now',
    },
  ];
}

async function entriesOf(directory: string): Promise<readonly string[]> {
  return (await readdir(directory).catch(() => [])).sort();
}

async function kibibytesOf(path: string): Promise<number> {
  const { stdout } = await exec('du', ['-sk', path], { timeoutMs: 60_000 });
  return Number.parseInt(stdout, 10) || 0;
}

function mebibytes(kibibytes: number): string {
  const mebi = kibibytes / 1024;
  return mebi >= 1024 ? `${(mebi / 1024).toFixed(1)} GiB` : `${Math.ceil(mebi)} MiB`;
}
