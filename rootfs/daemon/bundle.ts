import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

export interface DaemonBundle {
  readonly path: string;
  /** Lower-case hex. */
  readonly sha256: string;
}

/**
 * All of the daemon in one CommonJS file, `daemon.js` in `outDir`: it needs node and koffi's native module and
 * nothing else. The same sources give the same bytes.
 */
export async function bundleDaemon(outDir: string): Promise<DaemonBundle> {
  const here = dirname(fileURLToPath(import.meta.url));
  const result = await build({
    absWorkingDir: here,
    entryPoints: ['main.ts'],
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node24',
    format: 'cjs',
    legalComments: 'none',
    logLevel: 'silent',
  });
  const bytes = result.outputFiles[0]?.contents ?? new Uint8Array();
  const path = join(outDir, 'daemon.js');
  await mkdir(outDir, { recursive: true });
  await writeFile(path, bytes);
  return { path, sha256: createHash('sha256').update(bytes).digest('hex') };
}
