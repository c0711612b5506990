import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '#runner/lib/exec.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import type { Diagnosis } from './diagnosis.ts';

/** What the cache holds, and records of runs whose program is gone. */
export async function diagnoseCache(): Promise<readonly Diagnosis[]> {
  const areas = await entriesOf(cacheDir());
  const common = { name: 'cache', neededFor: 'second runs' };
  if (areas.length === 0) {
    return [{ ...common, state: 'ok', detail: `${cacheDir()} is empty: the first run builds everything` }];
  }
  const sizes = await Promise.all(
    areas.map(async (area) => `${area} ${mebibytes(await kibibytesOf(cacheDir(area)))}`),
  );
  return [
    { ...common, state: 'ok', detail: `${cacheDir()}: ${sizes.join(', ')}` },
    ...(await diagnoseRuns()),
  ];
}

async function diagnoseRuns(): Promise<readonly Diagnosis[]> {
  const stale: string[] = [];
  for (const run of await entriesOf(cacheDir('runs'))) {
    if (!(await isAlive(join(cacheDir('runs'), run)))) stale.push(run);
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

/** Whether the process that owns a run's directory still runs. */
async function isAlive(directory: string): Promise<boolean> {
  try {
    const { pid } = JSON.parse(await readFile(join(directory, 'run.json'), 'utf8')) as { pid?: unknown };
    if (typeof pid !== 'number') return false;
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
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
