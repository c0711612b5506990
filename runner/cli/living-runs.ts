import { readdir } from 'node:fs/promises';
import { Failure } from '#runner/lib/failure.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { isRunning } from '#runner/lib/process-table.ts';
import { currentBootId, readRunRecord } from '#runner/lib/run-record.ts';

/** @throws Failure E_RUN_GOING_ON (user) when another run uses what is about to be removed. */
export async function refuseWhileRunsLive(): Promise<void> {
  const bootId = await currentBootId();
  for (const name of await readdir(cacheDir('runs')).catch(() => [])) {
    const record = await readRunRecord(cacheDir('runs', name));
    if (record?.bootId !== bootId || !(await isRunning(record.owner))) continue;
    throw new Failure('E_RUN_GOING_ON', 'user', `a run is going on (process ${record.owner.pid})`, {
      hint: 'wait for its end, or end it with `kill`',
    });
  }
}
