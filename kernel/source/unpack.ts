import { execGuardedOrFail } from '../guarded.ts';

/** Unpacks a kernel tarball, without its top directory. */
export async function unpackTarball(archive: string, into: string, signal: AbortSignal): Promise<void> {
  await execGuardedOrFail(
    'tar',
    ['--extract', '--file', archive, '--directory', into, '--strip-components=1', '--no-same-owner'],
    {
      signal,
      env: { LC_ALL: 'C' },
      code: 'E_SOURCE_UNPACK',
      hint: `the archive may be damaged: delete ${archive} and try again`,
    },
  );
}
