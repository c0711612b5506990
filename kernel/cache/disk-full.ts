import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';

/** What tools print when write(2) gives ENOSPC or EDQUOT, in the C locale; tar's words for a short write. */
export const diskFullText = /No space left on device|Disk quota exceeded|Wrote only \d+ of \d+ bytes/u;

/**
 * Does work that writes below `path`; when the disk is full, says so instead of what happened to trip over it.
 *
 * @throws Failure E_DISK_FULL (infra) with the path and what is free there.
 */
export async function noticeFullDisk<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isDiskFull(error)) throw error;
    throw await diskFull(path, error);
  }
}

/** The failure itself, for those who learn of a full disk from a tool's log. */
export async function diskFull(path: string, cause?: unknown): Promise<Failure> {
  const free = await bytesFree(path);
  // Measured after whatever failed has tidied up.
  const left = free === undefined ? '' : ` (${Math.floor(free / 1024 ** 2)} MiB free now)`;
  return new Failure('E_DISK_FULL', 'infra', `no space left on the disk that holds ${path}${left}`, {
    hint: 'free some space there, or point FUSEGATE_CACHE, TMPDIR or --out at a larger disk',
    cause,
  });
}

function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof Failure && error.code === 'E_DISK_FULL') return false;
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') return true;
  return error instanceof Failure && diskFullText.test(error.message);
}

/** Free space for unprivileged users at `path` or its nearest existing parent. */
async function bytesFree(path: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  } catch {
    const parent = dirname(path);
    return parent === path ? undefined : bytesFree(parent);
  }
}
